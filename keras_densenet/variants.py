"""The networks that have a name: by growth rate, and dense layers in each block."""

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

# By depth: the fully convolutional DenseNets of Jegou et al. 2017 (arXiv 1611.09326),
# Tables 2 and 3. The block in the middle is the bottleneck, at 1/32 of the size.
FC_VARIANTS = {
    56: (12, (4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4)),
    67: (16, (5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5)),
    103: (16, (4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4)),
}
