"""What is typed in a terminal: the stages of `python -m keras_densenet`, and recipes.

Nothing here loads Keras before it is needed, so that help is quick.
"""
