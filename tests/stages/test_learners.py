"""Learners by name and by path."""

import os
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from acx_jax import config as schema
from acx_jax.contracts import Graphs, Support
from acx_jax.errors import UsageError
from acx_jax.fewshot.learner import Learner
from acx_jax.settings import LEARNERS, ON_TOP
from acx_jax.stages import evaluate, learners, report_words

README = Path(__file__).parents[2] / "README.md"
OTHERS = '''
three = 3

def no_way(*, features): pass

def nothing(*, features, way): pass

def fails(*, features, way): raise RuntimeError("boom")
'''
PARTS = '''
import jax.numpy as jnp
from acx_jax.fewshot.learner import Learner

def made(*, init=lambda key: jnp.zeros(3), adapt=lambda params, support, key: params, columns=(2,), dtype=None):
    return lambda *, features, way: Learner(init, adapt, lambda params, graphs: jnp.zeros((len(graphs.mask), *columns), dtype))

good, three, flat, half = made(), made(columns=(3,)), made(columns=()), made(dtype=jnp.bfloat16)
of_two, of_numbers = made(adapt=lambda params, support: params), made(init=lambda key: float(jnp.ones(()) * key))
'''


def named(*names: str):
    return schema.from_flat({"data.builder": "synthetic", "learners.names": names})


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """The README's module of its own learner, and a broken one, where Python finds them."""
    text = re.search(r"```python\n(# my_learners.py.*?)```", README.read_text(), re.DOTALL).group(1)
    (tmp_path / "my_learners.py").write_text(text)
    (tmp_path / "others.py").write_text(OTHERS)
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "my_learners.py"
    for name in ("my_learners", "others", "parts", "broken"):
        sys.modules.pop(name, None)


def scores(learner: Learner) -> np.ndarray:
    rng, key = np.random.default_rng(0), jax.random.key(0)
    labels = np.array([0, 1, 0, 1], np.int32)
    graphs = lambda classes: Graphs((rng.standard_normal((len(classes), 2, 8)) + 4 * classes[:, None, None]).astype(np.float32),
                                    np.ones((len(classes), 2), bool))
    return np.asarray(learner.logits(learner.adapt(learner.init(key), Support(graphs(labels), labels), key), graphs(labels)))


def test_every_named_learner_is_made_and_has_a_name_for_people():
    for name in LEARNERS:
        assert isinstance(learners.make_learner(name, named(name), features=8), Learner)
        assert report_words.learner_name(name) != name
    assert report_words.learner_name("svm" + ON_TOP) == "support vector machine with label propagation"


@pytest.mark.parametrize("on_top", ["", ON_TOP])
def test_the_learner_of_the_readme_works(own, on_top):
    config = schema.validate(named("my_learners.median" + on_top))
    learners.check_names(config)
    made = scores(learners.make_learner("my_learners.median" + on_top, config, features=8))
    assert made.argmax(axis=-1).tolist() == [0, 1, 0, 1]


def test_what_a_learner_computed_is_redone_when_its_file_changes(own):
    before = evaluate.settings(named("my_learners.median"))
    assert before == evaluate.settings(named("my_learners.median"))
    own.write_text(own.read_text() + os.linesep)
    assert before != evaluate.settings(named("my_learners.median"))
    assert "learner_code" not in evaluate.settings(named("mcp"))


@pytest.mark.parametrize("path, said", [
    ("nowhere.learner", "cannot import nowhere.learner: No module"), ("my_learners.mean", "module my_learners has no mean"),
    ("others.three", "others.three is a int, expected a function"), ("others.nothing", "others.nothing returned NoneType"),
    ("others.no_way", r"cannot be called as others.no_way\(features=..., way=...\)"),
    ("others.fails", r"others.fails\(features=512, way=2\) failed: RuntimeError: boom"),
    ("parts.three", r"logits of 6 queries are float32 of shape \(6, 3\), expected float32 of shape \(6, 2\)"),
    ("parts.flat", r"of shape \(6,\), expected"), ("parts.half", "are bfloat16 of shape"),
    ("parts.of_two", "parts.of_two: adapt failed on 4 support segments.*TypeError"), ("parts.of_numbers", "parts.of_numbers: init failed"),
    ("broken.learner", "importing broken.learner failed: ZeroDivisionError"),
])
def test_a_path_that_gives_no_learner_is_named(own, path, said):
    with pytest.raises(UsageError, match=said):
        learners.check_names(schema.validate(named("proto", path)))


def test_a_learner_of_the_right_shapes_passes(own):
    learners.check_names(schema.validate(named("proto", "parts.good", "parts.good" + ON_TOP)))
