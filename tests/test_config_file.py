"""What a config file may do wrong."""

import pytest
from remembering import CONFIG, start, write_config

from acx_jax.errors import UsageError


@pytest.mark.parametrize("text, said", [
    (CONFIG.format("config.adapt.step = 4"), 'line 6: .*Did you mean "steps"'),
    (CONFIG.format("config.seed = 'x'"), "line 6: TypeError"),
    (CONFIG.format("1 / 0"), "line 6: ZeroDivisionError"),
    (CONFIG.format("raise SystemExit(3)"), "line 6: SystemExit: 3"),
    ("def get_config(:", "SyntaxError"),
    ("seed = 3", "get_config"),
    ("def get_config(): return {}", "gave dict"),
    ("\x00", "cannot be used"),
])
def test_config_file_that_cannot_be_used(tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        start(tmp_path / "w", tmp_path / "mine.py")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["none.py", ".", "mine", "nowhere/mine.py"])
def test_missing_config_file_names_those_that_are_there(tmp_path, name):
    write_config(tmp_path / "mine.py")
    with pytest.raises(UsageError, match="is no file; .*(mine.py|no .py file)"):
        start(tmp_path / "w", tmp_path / name)
