"""Is it the digit that was asked for? A judge trained on real images, unseen by the diffusion."""

from sklearn.svm import SVC
from torch import Tensor

from train.data import Dataset


class SVMJudge:
    """scikit-learn's SVM (RBF) on the pixels of the real training images."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.svm = SVC(gamma="scale", C=10.0)
        self.svm.fit(data.scale(data.images).flatten(1).cpu().numpy(), data.labels.cpu().numpy())

    def accuracy(self, x: Tensor, c: Tensor) -> float:
        """Share of the images x (B, C, H, W) in [-1, 1] that are taken for their class c (B,)."""
        pixels = x.clamp(-1, 1).flatten(1).cpu().numpy()
        return float((self.svm.predict(pixels) == c.cpu().numpy()).mean())

    def accuracy_on_real(self) -> float:
        """The same on the held-out real images: what a perfect sampler could reach."""
        return self.accuracy(self.data.scale(self.data.test_images), self.data.test_labels)
