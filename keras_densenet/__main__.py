"""`python -m keras_densenet`: see `keras_densenet.command_line.cli`."""

from keras_densenet.command_line.cli import main

if __name__ == "__main__":
    main()
