"""Search spaces: what a file says is what is tried, and every mistake in one is told by its line."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import RandomSampler

from sparsight.errors import SparsightError
from sparsight.steps.train_autoencoder import Arguments as AutoencoderArguments
from sparsight.steps.train_classifier import Arguments as ClassifierArguments
from sparsight.steps.train_moco import Arguments as MocoArguments
from sparsight.tuning.inputs import inputs_of
from sparsight.tuning.space import SearchSpace, read_space

ROOT = Path(__file__).parents[2]
CONDITIONAL = """\
epochs: 7
optimizer: {choice: [adamw, sgd]}
learning_rate: {float: [0.001, 0.1], log: true}
weight_decay: {float: [0.0, 0.1], when: {optimizer: adamw}}
hidden: {int: [64, 256], step: 64}
freeze_backbone: {choice: [true, false]}
backbone_learning_rate_ratio: {float: [0.01, 1.0], when: {freeze_backbone: false, optimizer: [sgd, adamw]}}
"""


def read(folder: Path, text: str, step: str = "train_classifier", arguments: type = ClassifierArguments) -> SearchSpace:
    file = folder / "space.yml"
    file.write_text(text)
    return read_space(file, step, inputs_of(arguments, ROOT / "components" / step / "component.yml"))


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    return read(tmp_path_factory.mktemp("space"), CONDITIONAL)


@given(st.integers(0, 2**32 - 1))
def test_what_is_suggested_is_in_the_space(conditional: SearchSpace, seed: int) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    chosen = conditional.suggest(study.ask())
    assert chosen["epochs"] == 7
    assert chosen["optimizer"] in {"adamw", "sgd"}
    assert 0.001 <= chosen["learning_rate"] <= 0.1
    assert chosen["hidden"] in {64, 128, 192, 256}
    assert ("weight_decay" in chosen) == (chosen["optimizer"] == "adamw")
    assert ("backbone_learning_rate_ratio" in chosen) == (chosen["freeze_backbone"] is False)


def test_the_spaces_that_are_offered_are_sound() -> None:
    for name, step, arguments in (
        ("classifier", "train_classifier", ClassifierArguments),
        ("autoencoder", "train_autoencoder", AutoencoderArguments),
        ("pretraining", "train_moco", MocoArguments),
    ):
        inputs = inputs_of(arguments, ROOT / "components" / step / "component.yml")
        space = read_space(ROOT / "pipelines" / "searches" / f"{name}.yml", step, inputs)
        assert len(space.searched) >= 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "learning_rat: 0.1",
            "train_classifier takes no such input; known: augmentation_passes, backbone",
        ),
        ("images: here", "images: train_classifier takes no such input"),
        ("processes: 2", "processes: train_classifier takes no such input"),
        ("epochs: many", "epochs: expected a whole number, found 'many'"),
        ("epochs: 0", "epochs: expected at least 1, found 0"),
        ("dropout: nan", "dropout: expected a number, found 'nan'"),
        ("freeze_backbone: maybe", "freeze_backbone: expected true or false, found 'maybe'"),
        ("balance: often", "balance: expected one of none, "),
        ("dropout: [0.1, 0.2]", "dropout: expected one value, or one of {choice"),
        ("dropout:", "dropout: expected one value, or one of {choice"),
        ("dropout: {floats: [0, 1]}", "dropout: unknown key 'floats'; known: choice, float, int, log, step, when"),
        ("dropout: {float: [0, 1], choice: [0]}", "dropout: expected one of choice, float, found float, choice"),
        ("dropout: {int: [0, 1]}", "dropout: expected one of choice, float, found int"),
        ("balance: {float: [0, 1]}", "balance: expected one of choice, found float"),
        ("dropout: {float: 0.5}", "dropout: expected the lowest and the highest value, found 1 values"),
        ("dropout: {float: {low: 0}}", "dropout: expected a list of values, such as [1, 2]"),
        ("dropout: {float: [0.5, 0.1]}", "dropout: `low <= high` must hold"),
        ("dropout: {float: [0, 1.5]}", "dropout: expected at most 0.95, found 1.5"),
        ("dropout: {float: [0, 0.5], log: true}", "dropout: `low > 0` must hold"),
        ("dropout: {float: [0.1, 0.5], log: perhaps}", "dropout: expected true or false, found 'perhaps'"),
        ("dropout: {float: [0.1, 0.5], log: true, step: 0.1}", "dropout: The parameter `step` is not supported"),
        ("dropout: {float: [0, 0.5], step: 0.2}", "dropout: steps of 0.2 from 0.0 don't end at 0.5"),
        ("hidden: {int: [64, 100], step: 0}", "hidden: `step > 0` must hold"),
        ("hidden: {choice: [64, 64]}", "hidden: the same choice stands twice in 64, 64"),
        ("hidden: {choice: [64], log: true}", "hidden: a choice has no log"),
        ("hidden: {choice: []}", "hidden: expected a list of values"),
        ("hidden: {choice: [64, wide]}", "hidden: expected a whole number, found 'wide'"),
        ("dropout: {choice: [0.1], when: optimizer}", "dropout: `when` expects inputs with their values"),
        ("dropout: {choice: [0.1], when: {seed: 1}}", "dropout: `when` names 'seed', which isn't above it"),
        ("dropout: {choice: [0.1], when: {optimizer: adam}}", "dropout: expected one of adamw, sgd, found 'adam'"),
        ("dropout: {choice: [0.1], when: {patience: 3}}", "`when` asks for patience: 3, which is never tried"),
        ("dropout: {choice: [0.1], when: {hidden: 1000}}", "`when` asks for hidden: 1000, which is never tried"),
    ],
)
def test_a_mistake_is_told_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    above = [] if line.startswith("hidden") else ["hidden: {int: [1, 9]}"]
    text = "\n".join(["optimizer: {choice: [adamw, sgd]}", "patience: 5", *above, line])
    with pytest.raises(SparsightError) as caught:
        read(tmp_path, text)
    assert f"space.yml, line {len(above) + 3}: " in caught.value.problem
    assert message in caught.value.problem


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match=r"2 problems\.\n.*line 1: epoch: .*\n.*line 3: hidden: "):
        read(tmp_path, "epoch: 1\ndropout: {float: [0, 0.5]}\nhidden: 1.5\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3\n", "space.yml searches nothing: every input has one value"),
        ("- epochs\n", "line 1: expected inputs of train_classifier"),
        ("", "line 1: expected inputs of train_classifier"),
        ("epochs: 3\nepochs: 4\n", "line 2: 'epochs' is there already, in line 1"),
        ("epochs: {", "can't be read as YAML"),
    ],
)
def test_a_file_that_is_no_search_space_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SparsightError, match=message):
        read(tmp_path, text)


def test_without_a_components_file_types_are_still_checked(tmp_path: Path) -> None:
    file = tmp_path / "space.yml"
    file.write_text("epochs: 0\ndropout: {float: [0, 5]}\n")
    assert read_space(file, "train_classifier", inputs_of(ClassifierArguments, None)).fixed == {"epochs": 0}
    file.write_text("epochs: x\ndropout: {float: [0, 5]}\n")
    with pytest.raises(SparsightError, match="line 1: epochs: expected a whole number"):
        read_space(file, "train_classifier", inputs_of(ClassifierArguments, None))
