"""Backbones against torchvision's and timm's own models and preprocessing, and every weights file that can go wrong.

No hub can be reached in tests: weights are random, their batch norms away from the identity.
"""

import copy
import pickle
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.transforms.v2 import functional  # noqa: E402

from fastmlp.backends import open_backend  # noqa: E402
from fastmlp.common.errors import BackendError, DataError, UsageError  # noqa: E402
from fastmlp.extractors import open_extractor  # noqa: E402
from fastmlp.extractors.convolutions import fold_batch_norm  # noqa: E402
from fastmlp.extractors.vision import VisionExtractor, open_backbone  # noqa: E402
from fastmlp.testing.compare import assert_close  # noqa: E402

SAME_NETWORK = 1e-4  # another layout and another order of operations, through up to 120 float32 layers
FOLDED = 1e-5  # one multiplication moved from the activations to the weights
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)

TORCHVISION = {  # the last layer, a small input that the network takes
    "resnet18": ("fc", 40),
    "resnet50": ("fc", 40),
    "mobilenet_v3_small": ("classifier.3", 40),
    "densenet121": ("classifier", 40),
    "efficientnet_b0": ("classifier.1", 40),  # bicubic
    "convnext_tiny": ("classifier.2", 40),
    "vit_b_32": ("heads.head", 224),
}
TIMM = {"resnet18": 40, "vit_tiny_patch16_224": 224, "mobilenetv3_small_100": 40, "convnext_atto": 40}


@pytest.fixture(autouse=True)
def one_thread():
    """Small inputs gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def randomise(model):
    """Draw the statistics and scales of a model's batch norms, which are 0 and 1 in a new model."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0)):
                assert values is not None
                values.uniform_(low, high, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
    return model


def random_model(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(build()).eval()


@pytest.fixture(scope="module")
def resnet18_state():
    return random_model(models.resnet18).state_dict()


@pytest.fixture(scope="module")
def resnet18_file(resnet18_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18_state, path)
    return path


def error_of(kind, name, weights, image_size=32):
    """The message of the error that opening raises: one sentence, without an escape code."""
    with pytest.raises(kind) as caught:
        VisionExtractor(name, weights, image_size, "cpu")
    message = str(caught.value)
    assert message.endswith(".")
    assert message.isprintable()
    return message


# The same features as the library's own model.


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_features_are_those_of_its_own_model(name, tmp_path):
    layer, size = TORCHVISION[name]
    own = random_model(lambda: models.get_model(name, weights=None))
    torch.save(own.state_dict(), tmp_path / "weights.pth")
    own.set_submodule(layer, nn.Identity())
    extractor = VisionExtractor(f"torchvision:{name}", tmp_path / "weights.pth", size, "cpu")
    preset = models.get_model_weights(name).DEFAULT.transforms()
    expected = features_of(own, size, preset.interpolation, preset.mean, preset.std)
    assert_close(name, extractor(IMAGES), expected, SAME_NETWORK)
    assert extractor.features == expected.shape[1]
    (tmp_path / "weights.pth").unlink()  # some are large, and pytest keeps its folders


def test_what_torchvision_builds_in_for_published_weights_is_built_in(tmp_path, monkeypatch):
    """With its published weights googlenet transforms its input, and without them it does not."""
    state = random_model(lambda: models.googlenet(init_weights=False)).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    default = models.GoogLeNet_Weights.DEFAULT
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda *_, **__: state)
    own = models.googlenet(weights=default).eval()
    own.fc = nn.Identity()
    extractor = VisionExtractor("torchvision:googlenet", tmp_path / "weights.pth", 40, "cpu")
    preset = default.transforms()
    expected = features_of(own, 40, preset.interpolation, preset.mean, preset.std)
    assert_close("googlenet", extractor(IMAGES), expected, SAME_NETWORK)


def features_of(model, size, interpolation, mean, std):
    """Resized as torchvision resizes (antialiased, as for PIL images), without a crop, clipped and normalised."""
    images = torch.as_tensor(IMAGES).float() / 255
    resized = functional.resize(images, [size, size], interpolation=interpolation, antialias=True).clamp(0, 1)
    with torch.inference_mode():
        return model(functional.normalize(resized, mean, std)).numpy()


@pytest.mark.parametrize("name", TIMM)
def test_timm_features_are_those_of_its_own_model(name, tmp_path):
    timm = pytest.importorskip("timm")
    own = random_model(lambda: timm.create_model(name))
    save_file(own.state_dict(), tmp_path / "model.safetensors")
    own.reset_classifier(0)
    config = timm.data.resolve_model_data_config(own)
    extractor = VisionExtractor(f"timm:{name}", tmp_path / "model.safetensors", TIMM[name], "cpu")
    interpolation = functional.InterpolationMode(config["interpolation"])
    expected = features_of(own, TIMM[name], interpolation, config["mean"], config["std"])
    assert_close(name, extractor(IMAGES), expected, SAME_NETWORK)
    assert extractor.features == expected.shape[1]


def test_the_whole_preset_of_torchvision_gives_the_same(resnet18_file):
    """At the size the weights declare, with torchvision's transforms except for the crop of the border."""
    extractor = VisionExtractor("resnet18", resnet18_file, None, "cpu")
    preset = models.ResNet18_Weights.DEFAULT.transforms(resize_size=224)
    own = models.resnet18()
    own.load_state_dict(torch.load(resnet18_file, weights_only=True))
    own.fc = nn.Identity()
    with torch.inference_mode():
        expected = own.eval()(preset(torch.as_tensor(IMAGES).float() / 255)).numpy()
    assert extractor.image_size == 224
    assert_close("resnet18 at 224", extractor(IMAGES), expected, SAME_NETWORK)


def test_smaller_than_the_image_is_antialiased(resnet18_file):
    extractor = VisionExtractor("resnet18", resnet18_file, 16, "cpu")
    pixels = torch.as_tensor(IMAGES).float()
    assert_close("halved", extractor._resize(pixels).numpy(), functional.resize(pixels, [16, 16]).numpy(), FOLDED)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_folded_is_unfolded(name):
    model = random_model(lambda: models.get_model(name))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    folded = fold_batch_norm(copy.deepcopy(model))
    pixels = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert_close(name, folded(pixels).numpy(), model(pixels).numpy(), FOLDED)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert left == (62 if name == "densenet121" else 0) < norms  # densenet has norms that stand before a convolution


def test_a_model_that_cannot_be_traced_stays_as_it_is():
    model = type("Branching", (nn.Module,), {"forward": lambda _, x: x if x.sum() > 0 else -x})()
    assert fold_batch_norm(model) is model


def test_a_network_with_a_buffer_of_five_dimensions(tmp_path, monkeypatch):
    """As timm's swinv2_cr has, which PyTorch's own conversion to channels-last refuses."""
    timm = pytest.importorskip("timm")
    real = timm.create_model

    def with_buffer(name, **options):
        model = real(name, **options)
        model.register_buffer("mask", torch.zeros(1, 1, 1, 1, 1), persistent=False)
        return model

    monkeypatch.setattr(timm, "create_model", with_buffer)
    save_file(real("test_resnet").state_dict(), tmp_path / "model.safetensors")
    assert VisionExtractor("timm:test_resnet", tmp_path / "model.safetensors", 40, "cpu")(IMAGES).shape == (2, 96)


def test_features_do_not_depend_on_the_neighbours_in_a_batch(resnet18_file):
    extractor = VisionExtractor("resnet18", resnet18_file, 40, "cpu")
    one_by_one = np.concatenate([extractor(image[None]) for image in IMAGES])
    assert_close("batch", extractor(IMAGES), one_by_one, FOLDED)
    assert extractor(IMAGES).dtype == np.float32


def test_strided_images_are_read_as_they_are(resnet18_file):
    extractor = VisionExtractor("resnet18", resnet18_file, 40, "cpu")
    strided = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    strided.flags.writeable = False
    assert np.array_equal(extractor(strided), extractor(IMAGES))


def test_provenance_follows_the_weights_and_the_size(resnet18_file, resnet18_state, tmp_path):
    save_file(resnet18_state, tmp_path / "other.safetensors")
    seen = [
        VisionExtractor("resnet18", resnet18_file, 40, "cpu").provenance(),
        VisionExtractor("resnet18", resnet18_file, 32, "cpu").provenance(),
        VisionExtractor("resnet18", tmp_path / "other.safetensors", 40, "cpu").provenance(),
    ]
    assert seen[0] == VisionExtractor("resnet18", resnet18_file, 40, "cpu").provenance()
    assert len({str(provenance) for provenance in seen}) == 3
    assert seen[0] == {"name": "resnet18", "weights": seen[0]["weights"], "image_size": 40, "engine": "torch"}


def test_densenet_weights_under_their_published_names(tmp_path):
    state = random_model(models.densenet121).state_dict()
    older = {
        key.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2")
        if "denselayer" in key
        else key: value
        for key, value in state.items()
    }
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "older.pth")
    loaded = open_backbone("torchvision:densenet121", tmp_path / "older.pth").model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)


# Names and sizes.


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:resnet81", ["resnet18", "list_models"]),
        ("torchvision:ResNet50", ["resnet50"]),
        ("torchvision:fasterrcnn_resnet50_fpn", ["no classifier"]),
        ("torchvision:zzz", ["list_models"]),
        ("timm:resnet81", ["resnet18", "timm.list_models"]),
        ("timm:resnet18.a1_in", ["resnet18.a1_in1k"]),
        ("timm:", ["timm.list_models"]),
        ("torchvision:squeezenet1_1", ["does not end in a linear layer"]),
    ],
)
def test_unknown_names_are_refused_with_the_closest_ones(name, said):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    message = error_of(UsageError, name, None)
    assert all(part in message for part in said)


@pytest.mark.parametrize("size", [0, -1])
def test_a_senseless_image_size_is_refused(size, resnet18_file):
    assert "--image-size" in error_of(UsageError, "resnet18", resnet18_file, size)


def test_a_size_the_network_does_not_take_is_refused(tmp_path):
    timm = pytest.importorskip("timm")
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "vit.safetensors")
    message = error_of(UsageError, "timm:vit_tiny_patch16_224", tmp_path / "vit.safetensors", 64)
    assert "224" in message
    assert "--image-size" in message


@pytest.mark.parametrize("module", ["timm", "torchvision"])
def test_a_missing_library_is_named_with_its_extra(module, monkeypatch, resnet18_file):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=r"pip install 'fastmlp\[(timm|torch)\]'"):
        open_extractor(f"{module}:resnet18", open_backend("numpy"), weights=resnet18_file)


def test_a_device_that_is_not_there_is_refused(resnet18_file):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match="cuda"):
        VisionExtractor("resnet18", resnet18_file, 32, "cuda")


# Weights files.


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["zip", "legacy", "bare"])
def test_a_malicious_pickle_is_refused_and_not_run(how, tmp_path):
    harm, path = tmp_path / "harm", tmp_path / "weights.pth"
    if how == "bare":
        path.write_bytes(pickle.dumps(Malicious(harm)))
        pickle.loads(path.read_bytes())  # what the bomb does where it is run
        harm.unlink()
    else:
        torch.save({"fc.bias": Malicious(harm)}, path, _use_new_zipfile_serialization=how == "zip")
    assert "never run" in error_of(DataError, "resnet18", path)
    assert not harm.exists()


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    assert "model.state_dict()" in error_of(DataError, "resnet18", tmp_path / "module.pth")


@pytest.mark.parametrize("content", [{"state_dict": {}, "epoch": 3}, [1, 2], torch.zeros(3), {1: torch.zeros(1)}])
def test_what_is_no_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    assert "state dict" in error_of(DataError, "resnet18", tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "web page"])
def test_a_damaged_file_is_named(suffix, damage, resnet18_state, tmp_path):
    path = tmp_path / f"weights{suffix}"
    part = {"fc.bias": resnet18_state["fc.bias"], "fc.weight": resnet18_state["fc.weight"]}
    save_file(part, path) if suffix == ".safetensors" else torch.save(part, path)
    whole = path.read_bytes()
    garbage = np.random.default_rng(0).bytes(10_000)
    half, page = whole[: len(whole) // 2], b"<html>404</html>"
    path.write_bytes({"empty": b"", "truncated": half, "garbage": garbage, "web page": page}[damage])
    assert str(path) in error_of(DataError, "resnet18", path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "--weights" in error_of(DataError, "resnet18", tmp_path / "nowhere.pth")
    assert "--weights" in error_of(DataError, "resnet18", tmp_path)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "squeezenet.pth")
    message = error_of(DataError, "resnet18", tmp_path / "squeezenet.pth")
    assert "does not fit resnet18" in message
    assert len(message) < 500


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_are_refused(value, resnet18_state, tmp_path):
    state = {**resnet18_state, "fc.bias": torch.full((1000,), value)}
    torch.save(state, tmp_path / "nan.pth")
    assert "NaN" in error_of(DataError, "resnet18", tmp_path / "nan.pth")


# Downloads.


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty download folder, and the path at which resnet18's weights are kept in it."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints" / models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]


def test_a_download_that_fails_names_the_url_and_the_option(hub, monkeypatch):
    def fail(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    message = error_of(DataError, "resnet18", None)
    assert models.ResNet18_Weights.DEFAULT.url in message
    assert "--weights" in message
    assert "no route" in message


def test_weights_are_downloaded_once_and_their_hash_is_checked(hub, resnet18_file, monkeypatch):
    asked = []

    def copy_file(url, path, hash_prefix, progress):
        asked.append((url, hash_prefix))
        Path(path).write_bytes(resnet18_file.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", copy_file)
    for _ in range(2):  # the second time the file is there, and as wrong
        message = error_of(DataError, "resnet18", None)
        assert "damaged" in message
        assert str(hub) in message
    assert asked == [(models.ResNet18_Weights.DEFAULT.url, "f37072fd")]
    name = f"resnet18-{open_backbone('resnet18', resnet18_file).weights[7:15]}.pth"
    monkeypatch.setattr(models.ResNet18_Weights.DEFAULT.value, "url", f"https://example.org/{name}")
    downloaded = VisionExtractor("resnet18", None, 32, "cpu")
    assert downloaded.provenance() == VisionExtractor("resnet18", resnet18_file, 32, "cpu").provenance()


def test_timm_weights_that_cannot_be_downloaded(monkeypatch):
    timm = pytest.importorskip("timm")
    real = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("the hub cannot be reached\nand a long story")
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    message = error_of(DataError, "timm:resnet18", None)
    assert "timm/resnet18.a1_in1k" in message
    assert "--weights" in message
    assert "long story" not in message


def test_downloaded_timm_weights_are_known_by_their_hash(monkeypatch):
    timm = pytest.importorskip("timm")
    real, seeds = timm.create_model, [0, 0, 1]

    def downloaded(name, pretrained, **options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.pop(0))
            return real(name, **options)

    monkeypatch.setattr(timm, "create_model", downloaded)
    first, again, other = (open_backbone("timm:test_vit", None).weights for _ in range(3))
    assert first == again != other
    assert first.startswith("sha256:")
