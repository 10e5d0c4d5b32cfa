"""The networks for ImageNet that have a name: Table 1 of the paper, and its reports."""

# Name: growth rate k, dense layers in each block. The first four are Table 1; 161 is
# the authors' release; the last two are the technical report's (arXiv 1707.06990).
IMAGENET_VARIANTS = {
    "DenseNet121": (32, (6, 12, 24, 16)),
    "DenseNet169": (32, (6, 12, 32, 32)),
    "DenseNet201": (32, (6, 12, 48, 32)),
    "DenseNet264": (32, (6, 12, 64, 48)),
    "DenseNet161": (48, (6, 12, 36, 24)),
    "DenseNet232k48": (48, (6, 12, 48, 48)),
    "DenseNet264k48": (48, (6, 12, 64, 48)),
}
