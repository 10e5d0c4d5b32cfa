"""CIFAR through TensorFlow Datasets (TFDS)."""

from dataclasses import KW_ONLY, dataclass

from keras_densenet.data.arrays import Split
from keras_densenet.data.tfds_arrays import TFDSArrays, read

_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach
couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@dataclass(eq=False, repr=False)
class CIFAR(TFDSArrays):
    """What CIFAR-10 and CIFAR-100 have in common: 60,000 pictures of 32x32 pixels.

    45,000 are for training, 5,000 of the official training pictures are held out for
    validation, 10,000 are the test (paper, section 4.1). With augmentation it is the
    paper's "+": standardize, mirror, pad 4 in mean color, cut out 32x32.

    The arguments that are not listed here are those of `TFDSArrays` and of
    `SeededDataModule`.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        data_dir: Where TFDS keeps its data; by default `TFDS_DATA_DIR`, else TFDS's own
            default, `~/tensorflow_datasets`.
        manual_dir: A folder with the archive, for a machine without a network.
        validation_size: Training pictures held out, 0..49,999. The paper's final runs
            train on all: 0.
        augment: Whether to mirror and shift training pictures.
        mean: Mean of each channel, in 0..255; None for the authors'.
        std: Standard deviation of each channel, in 0..255; None for the authors'.

    Raises:
        DataUnavailableError: The data set can be neither found nor downloaded. The
            error, raised in `prepare_data`, names the ways out.
    """

    input_shape = (32, 32, 3)

    _: KW_ONLY
    validation_size: int = 5_000

    def __post_init__(self) -> None:
        """Check how many pictures are held out."""
        super().__post_init__()
        if not 0 <= self.validation_size < 50_000:
            raise ValueError(
                "validation_size, the training pictures held out, must be in "
                "0..49,999; the paper holds out 5,000. Received: "
                f"validation_size={self.validation_size}"
            )

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Read the training pictures, in two parts, or the test pictures."""
        builder = self._builder()
        if stage in ("fit", "validate"):
            images, labels = read(builder, "train")
            first = len(labels) - self.validation_size
            return {
                "train": Split(images[:first], labels[:first]),
                "val": Split(images[first:], labels[first:]),
            }
        return {"test": Split(*read(builder, "test"))}


class CIFAR10(CIFAR):
    """CIFAR-10 (Krizhevsky 2009): 60,000 pictures of 32x32 pixels in 10 classes.

    Splits, augmentation and arguments are those of `keras_densenet.data.cifar.CIFAR`:
    45,000 pictures to train on, 5,000 to validate on, 10,000 to test on.
    """

    name, title = "cifar10", "CIFAR-10"
    num_classes = 10
    class_names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    mean = (125.3, 123.0, 113.9)  # the authors' constants
    std = (63.0, 62.1, 66.7)


class CIFAR100(CIFAR):
    """CIFAR-100 (Krizhevsky 2009): 60,000 pictures of 32x32 pixels in 100 classes.

    Splits, augmentation and arguments are those of `keras_densenet.data.cifar.CIFAR`.
    Labels are the 100 fine ones.
    """

    name, title = "cifar100", "CIFAR-100"
    num_classes = 100
    class_names = tuple(_CIFAR100_NAMES.split())
    mean = (129.3, 124.1, 112.4)  # the authors' constants
    std = (68.2, 65.4, 70.4)
