"""FeatureExtractor and Augmenter: images in scikit-learn's pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from fastmlp import augment as augmentation
from fastmlp.augment import Policy
from fastmlp.backends import open_backend
from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.randomness import Purpose, generator
from fastmlp.datasets.images import Images, as_images
from fastmlp.extractors import Extractor, open_extractor
from fastmlp.extractors.patches import Codebook, Patches, learn_codebook, load_codebook


class ImageTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both transformers share: how they check their images."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # rows of pixels alone, which arbitrary matrices cannot replace
        return tags

    def _learn_shape(self, X: ArrayLike) -> Images:
        images = as_images(X)
        self.image_shape_ = images.shape[1:]
        self.n_features_in_ = int(np.prod(self.image_shape_))
        return images

    def _images(self, X: ArrayLike) -> Images:
        check_is_fitted(self)
        images = as_images(X)
        if images.shape[1:] != self.image_shape_:
            raise UsageError(
                f"{type(self).__name__} was fitted on images of shape {self.image_shape_}, not {images.shape[1:]}: "
                "resize them, or fit again."
            )
        return images


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, ImageTransformer):  # type: ignore[misc]  # see above
    """Turn images into features: of patches learned in fit, of a frozen backbone, or the pixels themselves.

    Parameters
    ----------
    extractor : str, default="patches"
        "patches" (512 K-means patch features, learned from the images passed to fit), "pixels" (scaled to -0.5 .. 0.5),
        "resnet18", "torchvision:NAME" or "timm:NAME" (a frozen backbone without its last layer; needs PyTorch).
    weights : str, Path or None, default=None
        File of a backbone's state dict (None: its own, downloaded once) or of a codebook for "patches" (None: learned).
    image_size : int or None, default=None
        A backbone's input size, in pixels per side; None: what its weights declare.
    backend : str, default="auto"
        The engine for patches, and the device for a backbone; see MLPClassifier.
    random_state : int, default=0
        Determines which patches "patches" learns from.

    Attributes
    ----------
    image_shape_ : tuple of int
        The shape (3, h, w) of an image.
    n_features_in_ : int
        The number of pixels, 3 h w.
    codebook_ : Codebook or None
        What "patches" learned.
    provenance_ : dict
        Everything besides the images that determines the features, as a feature store records it.

    See Also
    --------
    Augmenter : Randomly changed images to train on.
    MLPClassifier : The classifier on the features.

    Notes
    -----
    Images are uint8 (n, 3, h, w), or rows (n, 3 s s) of square ones, channel by channel, as in CIFAR-10's files.
    scikit-learn's own checks pass arbitrary matrices of floats, which are not images, and so do not apply; the tags say
    so, as PatchExtractor's do.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import FeatureExtractor
    >>> images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    >>> FeatureExtractor("pixels").fit_transform(images).shape
    (5, 3072)
    """

    def __init__(
        self,
        extractor: str = "patches",
        *,
        weights: str | Path | None = None,
        image_size: int | None = None,
        backend: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.extractor = extractor
        self.weights = weights
        self.image_size = image_size
        self.backend = backend
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> FeatureExtractor:
        """Learn the patches, or load the backbone.

        Parameters
        ----------
        X : array of shape (n, 3, h, w) or (n, 3 s s)
            Images, uint8.
        y : None
            Not used.

        Returns
        -------
        self : FeatureExtractor
            The fitted extractor.
        """
        images = self._learn_shape(X)
        self.codebook_ = self._codebook(images)
        self._extractor = self._open()
        self.provenance_ = self._extractor.provenance()
        self._n_features_out = self._extractor(images[:1]).shape[1]
        return self

    def transform(self, X: ArrayLike) -> Any:
        """The features of images.

        Parameters
        ----------
        X : array of shape (n, 3, h, w) or (n, 3 s s)
            Images, uint8, of the size passed to fit.

        Returns
        -------
        features : ndarray of shape (n, d), float32
            Features; a data frame after set_output.
        """
        images, extractor = self._images(X), self._opened()
        size = extractor.batch_size
        return np.concatenate([extractor(images[start : start + size]) for start in range(0, len(images), size)])

    def _codebook(self, images: Images) -> Codebook | None:
        if self.extractor != "patches":
            return None
        if self.weights is not None:
            return load_codebook(Path(self.weights))
        return learn_codebook(images, self.random_state, open_backend(self.backend))

    def _open(self) -> Extractor:
        backend = open_backend(self.backend)
        if self.codebook_ is not None:
            return Patches(self.codebook_, backend)
        weights = None if self.weights is None else Path(self.weights)
        return open_extractor(self.extractor, backend, weights=weights, image_size=self.image_size)

    def _opened(self) -> Extractor:
        """The extractor of fit; after unpickling, opened again with the same weights."""
        if not hasattr(self, "_extractor"):
            self._extractor = self._open()
            if self._extractor.provenance().get("weights") != self.provenance_.get("weights"):
                raise DataError(f"The weights of {self.extractor} are not those it was fitted with: fit it again.")
        return self._extractor

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the opened extractor, which holds device memory."""
        return {name: value for name, value in super().__getstate__().items() if name != "_extractor"}


class Augmenter(ImageTransformer):
    """Randomly changed images to train on, and the images themselves to answer for.

    ``fit_transform``, which a Pipeline calls to train, changes images at random: crop, rotation, cutout, or contrast
    with a horizontal flip, one per image, as the paper does, or by whatever kinds ``augment`` names. ``transform``,
    which it calls to predict, changes nothing.
    So the two differ, as in scikit-learn's TargetEncoder, and have to.

    Parameters
    ----------
    probability : float, default=0.5
        The part of the images that ``fit_transform`` changes.
    crop_padding : int, default=4
        Pixels of zeros around the image of which a window is cut.
    rotation_degrees : float, default=15.0
        The largest angle to either side.
    cutout_size : int, default=8
        The side of the square of zeros, in pixels.
    contrast : tuple of float, default=(0.5, 1.5)
        The lowest and the highest factor of contrast.
    flip_probability : float, default=0.5
        Of an image whose contrast changes; 0 where a mirrored image would be of another class.
    augment : str, Policy or None, default=None
        Which kinds of augmentation run and in which ranges, in place of the five parameters above, such as
        "crop=4,contrast=0.5:1.5,flip=0" (see :class:`fastmlp.augment.Policy`).
    backend : str, default="auto"
        What computes; see MLPClassifier.
    random_state : int, default=0
        Where all draws come from; the same integer gives the same images.

    Attributes
    ----------
    image_shape_ : tuple of int
        The shape (3, h, w) of an image.
    n_features_in_ : int
        The number of pixels, 3 h w.

    See Also
    --------
    FeatureExtractor : From images to features, the next step.

    Notes
    -----
    A step of a Pipeline keeps the number of rows, so images are changed in place of the originals, and with a
    probability of 0.5 the network still sees half of them as they are. The paper's set has every image twice; make it
    ahead of the Pipeline::

        X_twice = np.concatenate([X, Augmenter(probability=1).fit_transform(X)])
        y_twice = np.concatenate([y, y])

    Images are uint8 (n, 3, h, w), or rows (n, 3 s s) of square ones; they come back in the shape they came in.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from fastmlp import Augmenter, FeatureExtractor, MLPClassifier
    >>> pipeline = make_pipeline(Augmenter(), FeatureExtractor("patches"), MLPClassifier())
    """

    def __init__(
        self,
        probability: float = 0.5,
        *,
        crop_padding: int = 4,
        rotation_degrees: float = 15.0,
        cutout_size: int = 8,
        contrast: tuple[float, float] = (0.5, 1.5),
        flip_probability: float = 0.5,
        augment: str | Policy | None = None,
        backend: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.probability = probability
        self.crop_padding = crop_padding
        self.rotation_degrees = rotation_degrees
        self.cutout_size = cutout_size
        self.contrast = contrast
        self.flip_probability = flip_probability
        self.augment = augment
        self.backend = backend
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> Augmenter:
        """Remember the images' size.

        Parameters
        ----------
        X : array of shape (n, 3, h, w) or (n, 3 s s)
            Images, uint8.
        y : None
            Not used.

        Returns
        -------
        self : Augmenter
            The fitted augmenter.
        """
        self._learn_shape(X)
        return self

    def transform(self, X: ArrayLike) -> Images:
        """Return the images as they are.

        Parameters
        ----------
        X : array of shape (n, 3, h, w) or (n, 3 s s)
            Images, uint8.

        Returns
        -------
        images : ndarray of the shape of X, uint8
            The same images.
        """
        return self._images(X).reshape(np.shape(X))

    def fit_transform(self, X: ArrayLike, y: Any = None) -> Images:
        """Return images to train on: some of them changed.

        Parameters
        ----------
        X : array of shape (n, 3, h, w) or (n, 3 s s)
            Images, uint8.
        y : None
            Not used.

        Returns
        -------
        images : ndarray of the shape of X, uint8
            New images, row by row of the same classes.
        """
        if not 0 <= self.probability <= 1:
            raise UsageError(f"probability must lie between 0 and 1, not {self.probability}.")
        images = self._learn_shape(X).copy()
        rng = generator(self.random_state, Purpose.AUGMENTATION)
        plan = augmentation.draw(rng, len(images), self._policy, *images.shape[2:])
        changed = np.flatnonzero(rng.random(len(images)) < self.probability)
        images[changed] = augmentation.apply(open_backend(self.backend), images[changed], plan[changed])
        return images.reshape(np.shape(X))

    def set_output(self, *, transform: str | None = None) -> Augmenter:
        """Leave images arrays, whatever container the rest of a Pipeline is set to.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            Not used.

        Returns
        -------
        self : Augmenter
            The augmenter.
        """
        return self

    @property
    def _policy(self) -> Policy:
        if self.augment is None:
            return Policy(**self._ranges)
        if self._ranges != Policy().as_dict():
            raise UsageError("Give the ranges either by augment or by parameters of their own, not both.")
        if not isinstance(self.augment, str | Policy):
            raise UsageError(f"augment must be text such as 'crop=4,rotation=15', or a Policy, not {self.augment!r}.")
        return self.augment if isinstance(self.augment, Policy) else Policy.parse(self.augment, "augment")

    @property
    def _ranges(self) -> dict[str, float]:
        if np.shape(self.contrast) != (2,):
            raise UsageError(
                f"contrast must be its lowest and highest factor, such as (0.5, 1.5), not {self.contrast}."
            )
        lowest, highest = self.contrast
        return {
            "crop_padding": self.crop_padding,
            "rotation_degrees": self.rotation_degrees,
            "cutout_size": self.cutout_size,
            "contrast_lowest": lowest,
            "contrast_highest": highest,
            "flip_probability": self.flip_probability,
        }
