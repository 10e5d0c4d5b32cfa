"""`python -m keras_densenet`: see `keras_densenet.command_line`."""

from keras_densenet.command_line import main

if __name__ == "__main__":
    main()
