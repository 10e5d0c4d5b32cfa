"""Trainer, ImageClassifier and what they train with."""
