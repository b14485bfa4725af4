"""Config files, and runs with them up to where their config is settled."""

from pathlib import Path

from acx_jax.command_line import Request, make_workdir
from acx_jax.errors import UsageError
from acx_jax.remembered import remembering, wanted_config

CONFIG = """
from acx_jax.config import default_config
def get_config():
    config = default_config()
    config.data.builder = "synthetic"
    {}
    return config
"""


def write_config(path: Path, line: str = "pass") -> Path:
    path.write_text(CONFIG.format(line))
    return path


def start(workdir: Path, config_file: Path | None = None, *, refused: bool = False, made: str = "", **overrides: str):
    """One run up to where its config is settled; dots of the overrides' keys as double underscores. refused: by what comes then; made: a stage that is
    made before."""
    request = Request(config_file, {key.replace("__", "."): value for key, value in overrides.items()}, workdir, "all")
    wanted_config(request)
    make_workdir(workdir)
    with remembering(request) as config:
        if made:
            (workdir / made).mkdir(exist_ok=True)
            (workdir / made / "stage.json").write_text(str(overrides))
        if refused:
            raise UsageError("the data do not allow it")
        return config
