"""The launch scripts say what they would run, and refuse what they do not know."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUN = ("--", "--config=configs/dota.py", "--workdir=runs/my dota")


def launched(script: str, *arguments: str, path: str = os.environ["PATH"]):
    return subprocess.run(["bash", ROOT / "launch" / script, *arguments], capture_output=True, text=True, check=False,
                          env=os.environ | {"PATH": path})


@pytest.fixture
def recorder(tmp_path) -> tuple[str, Path]:
    """A PATH on which sbatch and gcloud only note their arguments, and the note."""
    for name in ("sbatch", "gcloud"):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@" > {tmp_path}/note\n')
        (tmp_path / name).chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}", tmp_path / "note"


@pytest.mark.parametrize("script, options, begins", [
    ("slurm.sh", ("--sbatch=--partition=gpu --gres=gpu:4",), ["sbatch", "--job-name=acx_jax", "--nodes=1"]),
    ("tpu.sh", ("--name=mine", "--zone=z-1"), ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "mine", "--zone=z-1"]),
])
def test_what_is_printed_is_what_is_run(recorder, script, options, begins):
    path, note = recorder
    dry = launched(script, "--dry_run", *options, *RUN, path=path)
    assert dry.returncode == 0 and not note.exists(), dry.stderr
    wet = launched(script, *options, *RUN, path=path)
    assert wet.returncode == 0 and wet.stdout == dry.stdout
    said = shlex.split(dry.stdout)
    assert said == note.read_text().splitlines() and said[:len(begins)] == begins
    inner = shlex.split(said[-1].removeprefix("--command="))
    assert "acx_jax.main" in inner and "--workdir=runs/my dota" in [word.rstrip(";") for word in inner]


@pytest.mark.parametrize("script, options, among", [
    ("slurm.sh", ("--processes=8", "--sbatch=--nodes=2 --gres=gpu:4"), {"--ntasks=8", "--nodes=2"}),
    ("tpu.sh", ("--all_hosts", "--name=mine", "--zone=z-1"), {"--worker=all"}),
])
def test_processes_that_work_together_join(script, options, among):
    words = shlex.split(launched(script, "--dry_run", *options, *RUN, "--stage=embed").stdout)
    assert among <= set(words) and {"--stage=embed", "--join=auto"} <= {word.rstrip(";") for word in shlex.split(words[-1])}
    assert "--join=auto" in launched(script, "--dry_run", *options, *RUN, "--stage=adapt").stdout
    alone = launched(script, "--dry_run", *options[1:], *RUN, "--stage=adapt").stdout
    assert "--join" not in alone
    refused = launched(script, "--dry_run", *options, *RUN)  # all stages
    assert refused.returncode == 2 and "--stage=adapt" in refused.stderr


def test_slurm_stops_it_in_time_and_queues_it_again():
    said = launched("slurm.sh", "--dry_run", "--sbatch=--partition=gpu --time=1:00:00", *RUN).stdout
    words = shlex.split(said)
    assert {"--signal=TERM@120", "--requeue", "--partition=gpu", "--time=1:00:00"} <= set(words)
    assert "143" in words[-1] and "scontrol requeue" in words[-1]


def test_the_demo_says_what_it_would_do_and_does_nothing(tmp_path):
    root = tmp_path / "a copy"
    shutil.copytree(ROOT / "launch", root / "launch")
    said = subprocess.run(["bash", root / "launch/demo.sh", "--dry_run", "--config.data.root=my videos"], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHON": sys.executable})
    make, install, _, run = (shlex.split(line) for line in said.stdout.splitlines())
    assert make[1:] == ["-m", "venv", f"{root}/.venv"] and install[:4] == [f"{root}/.venv/bin/python", "-m", "pip", "install"]
    assert run == [install[0], "-m", "acx_jax.main", "--config=configs/demo.py", "--workdir=runs/demo", "--config.data.root=my videos"]
    assert [path.name for path in root.iterdir()] == ["launch"]


@pytest.mark.parametrize("script, status, queued", [("slurm.sh", 143, True), ("slurm.sh", 1, False), ("slurm.sh", 0, False), ("slurm_prepare.sh", 143, False)])
def test_what_slurm_runs_passes_on_its_cores_and_every_word(tmp_path, script, status, queued):
    """Run by sh, as sbatch does, in a locale that does not know the letters of a name."""
    workdir = "--workdir=runs/vidéo's $HOME"
    for name, ends in (("srun", status), ("scontrol", 0)):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/{name}.note\nexit {ends}\n')
        (tmp_path / name).chmod(0o755)
    plain = os.environ | {"LC_ALL": "C", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run(["bash", ROOT / "launch" / script, "--dry_run", "--", "--config=configs/dota.py", workdir], capture_output=True, text=True,
                          check=True, env=plain)
    inner = subprocess.run(["bash", "-c", f"set -- {said.stdout.splitlines()[0]}; printf %s \"${{@: -1}}\""], capture_output=True, check=True, env=plain)
    job = {"SLURM_CPUS_PER_TASK": "6", "SLURM_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(["sh", "-c", inner.stdout], check=False, env=plain | job)
    assert done.returncode == status and (tmp_path / "scontrol.note").exists() == queued
    words = (tmp_path / "srun.note").read_text().splitlines()
    assert words[:3] == ["--cpus-per-task=6", f"{ROOT}/.venv/bin/python", "-m"] and workdir in words
    assert not queued or (tmp_path / "scontrol.note").read_text() == "requeue\n77\n"


def test_slurm_reads_in_shards_and_then_merges(tmp_path):
    (tmp_path / "sbatch").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" END >> {tmp_path}/note\necho "77;cluster"\n')
    (tmp_path / "sbatch").chmod(0o755)
    dry = launched("slurm_prepare.sh", "--dry_run", "--shards=3", *RUN).stdout.splitlines()
    wet = launched("slurm_prepare.sh", "--shards=3", *RUN, path=f"{tmp_path}:{os.environ['PATH']}")
    assert wet.returncode == 0, wet.stderr
    reading, merging = (words.splitlines() for words in (tmp_path / "note").read_text().split("END\n")[:2])
    assert shlex.split(dry[0]) == ["sbatch", *reading] and "--array=0-2" in reading
    assert shlex.split(dry[1].replace("JOB", "77")) == ["sbatch", *merging] and "--dependency=afterok:77" in merging
    assert shlex.split(reading[-1])[-2:] == ["--stage=prepare", "--shard=$SLURM_ARRAY_TASK_ID/3"] and "--shard" not in merging[-1]
    assert "--workdir=runs/my dota" in shlex.split(merging[-1])


@pytest.mark.parametrize("script, arguments", [
    ("slurm_prepare.sh", ()), ("slurm_prepare.sh", ("--shards=0", *RUN)), ("slurm_prepare.sh", ("--shard=3", *RUN)),
    ("slurm.sh", ()), ("slurm.sh", ("--gpus=4", *RUN)), ("slurm.sh", ("--processes=some", *RUN, "--stage=adapt")), ("slurm.sh", ("--dry_run", "--", "--config=configs/dota.py")),
    ("demo.sh", ("--dryrun",)), ("demo.sh", ("--config.seed",)), ("demo.sh", ("--workdir=runs/mine",)),
    ("tpu.sh", ("--dry_run", *RUN)), ("tpu.sh", ("--name=a", "--zone=b", "--")), ("tpu.sh", ("--nam=a", *RUN)),
])
def test_wrong_usage_ends_with_2(script, arguments):
    done = launched(script, *arguments)
    assert done.returncode == 2 and f"launch/{script}: " in done.stderr
