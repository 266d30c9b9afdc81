"""The paper: its two models, its network, its Table 1, and the run behind it, which every report shows beside its own.

"MLP Model for CIFAR10 Classification", CS776A Deep Learning for Computer Vision, Assignment 1, IIT Kanpur,
February 2022.
"""

from typing import Any

MODELS = ("original", "augmented")  # trained on the original images, and on those and their augmented copies
SIZES = (512, 64, 10)  # inputs, hidden units, classes

# Accuracies as fractions, losses as mean cross-entropies.
TABLE1: dict[str, dict[str, float]] = {
    "original": {
        "train_accuracy": 0.85546,
        "train_loss": 0.417,
        "test_accuracy": 0.80140,
        "test_loss": 0.580,
    },
    "augmented": {
        "train_accuracy": 0.80128,
        "train_loss": 0.562,
        "test_accuracy": 0.80680,
        "test_loss": 0.579,
    },
}

# The settings those numbers hold for, by their names in results.json's config.
RUN: dict[str, Any] = {
    "dataset": "cifar10",
    "extractor": "resnet18",
    "copies": 1,
    "image_size": 224,
    "epochs": 300,
    "batch_size": 64,
    "learning_rate": 0.01,
    "learning_rate_drop": {"every": 100, "factor": 0.1},
    "hidden_layer_sizes": [64],
    "limit": None,
    "window_rows": None,
}
