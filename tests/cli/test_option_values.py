"""Whatever is wrong with an option's value, the error names the option, as it was typed, and the value."""

import pytest

from fastmlp.cli.main import main

COUNTS = ["0", "-1", "1.5", "x", "", "nan"]
WRONG = {
    "epochs": COUNTS,
    "batch-size": COUNTS,
    "seeds": COUNTS,
    "threads": COUNTS,
    "limit": COUNTS,
    "image-size": COUNTS,
    "copies": COUNTS,
    "seed": ["-1", str(2**32), "1.5", "x"],
    "learning-rate": ["0", "-1", "nan", "inf", "x", ""],
    "weight-decay": ["-1", "nan", "inf", "x"],
    "hidden-layer-sizes": ["0", "64,0", "64,-1", "1.5", "x"],
    "dtype": ["double", "float8"],
    "convolutions": ["fast", "cudnn:0", "cudnn:x", "measured:64", ""],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_the_error_names_the_option(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["reproduce", f"--{name}={value}"])
    except SystemExit as exit:  # argparse's way
        code = exit.code  # type: ignore[assignment]
    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert f"--{name}" in said
    assert "must be" in said
    assert value.split(",")[-1] in said


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning-rates", "0.1,-1"), ("learning-rates", "nan"), ("learning-rates", "0.1,x"),
     ("learning-rates", "0.1,0.1"),
     ("weight-decays", "-0.1"), ("weight-decays", "inf"), ("widths", "0"), ("widths", "x")],
)  # fmt: skip
def test_of_a_sweep(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["sweep", f"--{name}={value}"])
    except SystemExit as exit:
        code = exit.code  # type: ignore[assignment]
    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert f"--{name}" in said
    assert "must be" in said


@pytest.mark.parametrize(
    "argv",
    [["train", "--features"], ["sweep", "--features", "X.npy", "--labels"], ["probe", "--test-features"],
     ["train", "--test-labels"], ["evaluate", "--model", "m", "--features"], ["predict", "--model", "m"]],
)  # fmt: skip
def test_features_are_no_url(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A path would lose a slash, and the error would name what nobody typed."""
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "s3://bucket/x.npy"])
    assert stopped.value.code == 2
    assert "a file, folder or glob of this machine, not the URL 's3://bucket/x.npy'" in capsys.readouterr().err
