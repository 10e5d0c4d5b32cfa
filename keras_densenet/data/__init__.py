"""Data modules: what pictures a network is trained, validated and tested on."""
