"""What engines render: golden files of the guide's commands, words that arrive as they are."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.engines import ENGINES, kubernetes
from launch.engines.fit import check_fit, config_arguments, memory_gib
from launch.engines.job import Job, seconds
from negflax.config import ConfigError

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
PAGE = (ROOT / "docs/launching.md").read_text()
COMMANDS = [
    shlex.split(code.replace("\\\n", " "))
    for mark, code in re.findall(r"(<!-- not run.*?-->\n)?^```sh\n(.*?)^```$", PAGE, re.M | re.S)
    if not mark and "launch.submit" in code
]
PYTHON = sys.executable
HOSTILE = [
    "a b",
    "$(touch pwned)",
    "`id`",
    "it's",
    'say "hi"',
    "two\nlines",
    "$HOME",
    "\\",
    "*",
    "",
]


def job(**changes):
    known = {"name": "first", "module": "launch.train", "workdir": "runs/first"}
    return Job(**known | changes)


def name_of(command):
    return next(word.partition("=")[2] for word in command if word.startswith("--name="))


@pytest.fixture
def submit(monkeypatch, capsys):
    """launch.submit within this process; what it printed."""
    from programs import run

    def call(*arguments):
        run("submit", *arguments)
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_commands_of_the_guide(command, submit, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert command[:3] == ["python", "-m", "launch.submit"]
    printed = submit("--dry_run", "--noplan", *command[3:])
    printed = printed.replace(sys.executable, "PYTHON").replace(str(ROOT), "ROOT")
    golden = GOLDEN / f"{name_of(command)}.txt"
    assert printed == golden.read_text(), f"if the change is meant: write it to {golden}"


def test_every_engine_and_golden_file_is_in_the_guide():
    engines = {word.partition("=")[2] for c in COMMANDS for word in c if "--engine=" in word}
    assert engines == set(ENGINES)
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {name_of(c) for c in COMMANDS}


ARGV = "import json, sys; open(sys.argv[1], 'a').write(json.dumps(sys.argv[2:]))"


def printing_python(folder):
    """An interpreter that writes down its arguments."""
    path = folder / "py thon"
    code = shlex.quote(f"{ARGV}")
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c {code} {folder}/argv.json "$@"\n')
    path.chmod(0o755)
    return path


def fake(folder, name, code=""):
    """A tool that writes down its arguments."""
    path = folder / name
    line = shlex.quote(ARGV)
    path.write_text(f'#!/bin/sh\n{sys.executable} -c {line} {folder}/{name}.json "$@"\n{code}\n')
    path.chmod(0o755)


def test_hostile_arguments_arrive_through_the_local_script(tmp_path):
    hostile = job(arguments=tuple(HOSTILE), python=str(printing_python(tmp_path)))
    ((name, text),) = ENGINES["local"].render(hostile).items()
    (tmp_path / name).write_text(text)
    subprocess.run(["bash", tmp_path / name], check=True)
    expected = ["-m", "launch.train", *HOSTILE, "--workdir=runs/first"]
    assert json.loads((tmp_path / "argv.json").read_text()) == expected


def test_hostile_arguments_arrive_through_slurm_tpu_vm_and_sky(tmp_path):
    """srun and docker hand on what stands behind their own options."""
    python = str(printing_python(tmp_path))
    fake(tmp_path, "srun")
    fake(tmp_path, "docker")
    fake(tmp_path, "python")
    image = {"image": "x/y:1", "arguments": tuple(HOSTILE)}
    made = {
        "srun": ENGINES["slurm"].render(job(arguments=tuple(HOSTILE), python=python)),
        "docker": ENGINES["tpu_vm"].render(job(accelerator="v6e-8", zone="us-a", **image)),
        "python": {
            "run.sh": yaml.safe_load(ENGINES["skypilot"].render(job(**image))["first.yaml"])["run"]
        },
    }
    expected = ["-m", "launch.train", *HOSTILE, "--workdir=runs/first"]
    for tool, files in made.items():
        (text,) = files.values()
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
        subprocess.run(["bash", "-c", text], env=env, check=True, cwd=tmp_path)
        assert json.loads((tmp_path / f"{tool}.json").read_text())[-len(expected) :] == expected
    assert not (tmp_path / "pwned").exists()


def test_a_run_on_an_object_store_has_its_logs_here():
    (text,) = ENGINES["slurm"].render(job(workdir="gs://bucket/run")).values()
    assert f"--output={Path('runs/first').absolute()}/first.out" in text
    assert "--workdir=gs://bucket/run" in text
    assert job(workdir="s3://b/r", nodes=2, arguments=("--cache_dir=/nfs",)).remote


SRUN = """#!/bin/bash
shift  # --kill-on-bad-exit=1
for rank in 0 1; do SLURM_PROCID=$rank "$@"; done
exit 137
"""


@pytest.mark.parametrize(("first", "code"), [(1, 1), (42, 42), (134, 134), (139, 139)])
def test_slurm_decides_by_the_first_task_that_failed(tmp_path, first, code):
    """srun returns 137 where it killed the other tasks, which is no reason to try again."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nif [ "$SLURM_PROCID" = 0 ]; then exit {first}; fi\nexit 137\n')
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" > requeued\n')
    for program in ("python", "srun", "scontrol"):
        (tmp_path / program).chmod(0o755)
    (text,) = ENGINES["slurm"].render(job(python=str(python), workdir=str(workdir))).values()
    text = text.replace(f"cd {ROOT}", f"cd {tmp_path}")
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    found = subprocess.run(["bash", "-c", text], env=env, cwd=tmp_path)
    assert found.returncode == code
    assert (tmp_path / "requeued").exists() == (code != 1)
    assert not list(workdir.iterdir())


def expanded(word, known):
    """Kubernetes' own expansion, character by character: $$ is $, $(NAME) is known or stays."""
    out, i = "", 0
    while i < len(word):
        if word[i] != "$" or i + 1 == len(word):
            out, i = out + word[i], i + 1
        elif word[i + 1] == "$":
            out, i = out + "$", i + 2
        elif word[i + 1] == "(" and ")" in word[i:]:
            end = word.index(")", i)
            name = word[i + 2 : end]
            out, i = out + known.get(name, f"$({name})"), end + 1
        else:
            out, i = out + word[i : i + 2], i + 2
    return out


@settings(deadline=None)
@given(st.text("$()ab \n'\"", max_size=12))
def test_kubernetes_expands_no_argument(word):
    known = {"a": "A", "b": "B", "": "X"}
    assert expanded(kubernetes.literal(word), known) == word
    (tree,) = map(
        yaml.safe_load, ENGINES["jobset"].render(job(image="x", arguments=(word,))).values()
    )
    (container,) = tree["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert [expanded(x, known) for x in container["command"]][3] == word


@pytest.mark.parametrize("engine", ["slurm", "jobset", "trainjob", "tpu_vm", "skypilot"])
@pytest.mark.parametrize("action", ["submit", "status", "logs", "cancel"])
def test_tools_get_their_words(engine, action, tmp_path, submit, monkeypatch):
    """Through launch.submit, with stand-ins that alone are on the path."""
    for tool in ("sbatch", "squeue", "scancel", "tail", "kubectl", "gcloud", "sky"):
        fake(tmp_path, tool)
    monkeypatch.setenv("PATH", str(tmp_path))
    more = {
        "slurm": [],
        "jobset": ["--image=x/y:1"],
        "trainjob": ["--image=x/y:1"],
        "tpu_vm": ["--image=x/y:1", "--zone=us-a", "--accelerator=v6e-8"],
        "skypilot": ["--secrets=WANDB_API_KEY"],
    }[engine]
    monkeypatch.setenv("WANDB_API_KEY", "very secret")
    folder = tmp_path / "with space"
    submit(
        f"--engine={engine}",
        f"--action={action}",
        f"--workdir={tmp_path}/run",
        "--name=first",
        f"--out={folder}",
        "--noplan",
        *more,
        "--",
        "launch.train",
        "--x=$(id)",
    )
    (written,) = tmp_path.glob("*.json")
    words = json.loads(written.read_text())
    if action == "submit":
        (made,) = folder.iterdir()
        assert any(str(made) in word for word in words)
        assert "very secret" not in made.read_text() + written.read_text()
        assert (made.stat().st_mode & 0o077) in (0, 0o44)
    assert any("first" in word for word in words) or (engine, action) == ("skypilot", "status")


def test_a_tool_that_fails_or_is_missing(tmp_path, submit, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["--engine=slurm", f"--workdir={tmp_path}", "--noplan", "--", "launch.train"]
    with pytest.raises(ConfigError, match="sbatch is not installed"):
        submit(*words)
    fake(tmp_path, "sbatch", "exit 3")
    with pytest.raises(SystemExit) as left:
        submit(*words)
    assert left.value.code == 3


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"name": "First"}, "--name='First'"),
        ({"name": "a" * 41}, "at most 40"),
        ({"name": "x; rm"}, "--name"),
        ({"name": "x\n"}, "--name"),
        ({"module": "os"}, "launch.NAME"),
        ({"workdir": "a b"}, "--workdir"),
        ({"workdir": "a\n#SBATCH --x"}, "--workdir"),
        ({"workdir": "gs://bucket/run", "nodes": 2}, "--cache_dir=FOLDER"),
        ({"volume": "claim"}, "NAME:/PATH"),
        ({"volume": "claim:/a b"}, "NAME:/PATH"),
        ({"queue": "q\n#SBATCH --uid=0"}, "--queue"),
        ({"image": "x y"}, "--image"),
        ({"accelerator": "h100:0"}, "TYPE:COUNT"),
        ({"topology": "4*4"}, "--topology"),
        ({"labels": {"a b": "c"}}, "--labels"),
        ({"labels": {"a": "-c"}}, "--labels"),
        ({"nodes": 0}, "--nodes=0: at least 1"),
        ({"array": 2, "nodes": 2}, "--array"),
        ({"secrets": ("A=b",)}, "without values"),
        ({"arguments": ("--wandb_api_key=abc",)}, "looks like a secret"),
        ({"arguments": ("--db.password", "abc")}, "looks like a secret"),
        ({"arguments": ("--note=AKIAABCDEFGHIJKLMNOP",)}, "looks like a secret"),
    ],
)
def test_what_a_job_may_be(changes, says):
    with pytest.raises(ConfigError, match=re.escape(says)) as error:
        job(**changes)
    assert "abc" not in str(error.value) and "AKIA" not in str(error.value)


@pytest.mark.parametrize(
    "engine, changes, says",
    [
        ("local", {"array": 2}, "local runs one job"),
        ("slurm", {"topology": "2x2"}, "no TPU slices"),
        ("jobset", {}, "--image is needed"),
        ("jobset", {"image": "x", "num_slices": 2}, "only TPUs have slices"),
        ("jobset", {"image": "x", "topology": "4x4"}, "--accelerator is needed"),
        ("jobset", {"image": "x", "topology": "4x4", "accelerator": "tpu-v6e-slice"}, "16 chips"),
        ("trainjob", {"image": "x", "array": 2}, "--engine=jobset"),
        ("trainjob", {"image": "x", "secrets": ("s",)}, "training runtime"),
        ("tpu_vm", {"image": "x"}, "--zone is needed"),
        (
            "tpu_vm",
            {"image": "x", "zone": "z", "accelerator": "h100"},
            "such as v6e-16",
        ),
        ("skypilot", {"array": 3}, "skypilot runs one job"),
    ],
)
def test_what_an_engine_cannot_do(engine, changes, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        ENGINES[engine].render(job(**changes))


def test_times():
    assert [seconds(x) for x in ("", "90", "30m", "4h", "2d", "01:02:03")] == [
        0,
        90,
        1800,
        14400,
        172800,
        3723,
    ]
    with pytest.raises(ConfigError, match="HH:MM:SS"):
        seconds("soon")


PLANNED = ["--config=configs/synthetic.py", "--config.loss.candidates=uniform"]


def planner(folder, code):
    """A stand-in for the interpreter that starts launch.plan."""
    path = folder / "planner"
    path.write_text(f"#!{PYTHON}\nimport sys\npath = sys.argv[-2][7:]\n{code}\n")
    path.chmod(0o755)
    return str(path)


def test_the_planner_is_asked_first(tmp_path, submit, monkeypatch):
    words = ["--engine=slurm", f"--workdir={tmp_path}", "--memory_gib=0.5", "--items=50000"]
    plan = {"fits": False, "peak": 2**30, "advice": {"rows": "a smaller config.model.embedding"}}
    fake(tmp_path, "sbatch")
    monkeypatch.setenv("PATH", str(tmp_path))
    code = f"assert sys.argv[-1] == '--items=50000'\nopen(path, 'w').write({json.dumps(plan)!r})"
    monkeypatch.setattr(sys, "executable", planner(tmp_path, code))
    with pytest.raises(ConfigError, match="does not fit into 0.5 GiB.*config.model.embedding"):
        submit(*words, "--", "launch.train", *PLANNED)
    assert not (tmp_path / "sbatch.json").exists()
    plan["fits"] = True
    code = f"open(path, 'w').write({json.dumps(plan)!r})"
    monkeypatch.setattr(sys, "executable", planner(tmp_path, code))
    assert "1.00 of 0.5 GiB a device" in submit(*words, "--", "launch.train", *PLANNED)
    monkeypatch.setattr(sys, "executable", planner(tmp_path, "sys.exit('no data')"))
    with pytest.raises(ConfigError, match="no data. If the data is not.*--noplan"):
        submit(*words, "--", "launch.train", *PLANNED)


@pytest.mark.system
def test_the_real_planner(monkeypatch):
    monkeypatch.chdir(ROOT)
    large = job(arguments=tuple(PLANNED), accelerator="h100:1")
    assert "of 80 GiB a device" in check_fit(large, memory_gib(large), {"items": 50_000})
    with pytest.raises(ConfigError, match="does not fit into 0.001 GiB"):
        check_fit(large, 0.001, {"items": 50_000})


def test_what_the_planner_is_told():
    words = ["--config", "a.py", "--config.loss.w=3", "-config.name=x", "--configs=no", "--steps=2"]
    assert config_arguments(words) == ["--config=a.py", "--config.loss.w=3", "-config.name=x"]
    assert memory_gib(job(accelerator="nvidia-h100-80gb:8")) == 80
    assert memory_gib(job()) == 0


PROGRAM = """\
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[3])
rank = os.environ.get("JAX_PROCESS_ID", "0")
tries = folder / f"tries.{rank}"
number = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (number + 1))
code = sys.argv[4].split(",")[number]
if code == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
    (folder / f"ready.{rank}").touch()
    time.sleep(60)
sys.exit(int(code)) if int(code) < 128 else os.kill(os.getpid(), int(code) - 128)
"""


def local_run(folder, codes, **changes):
    (folder / "program.py").write_text(PROGRAM)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/program.py "$@"\n')
    python.chmod(0o755)
    one = job(arguments=(str(folder), codes), python=str(python), **changes)
    ((name, text),) = ENGINES["local"].render(one).items()
    (folder / name).write_text(text)
    return subprocess.Popen(["bash", folder / name], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "codes, nodes, restarts, ends, tries",
    [
        ("42,42,0", 1, 0, 0, 3),  # preemptions do not count
        ("137,143,0", 1, 2, 0, 3),
        ("137,137,0", 1, 1, 137, 2),
        ("1,0", 1, 5, 1, 1),  # the user's error
        ("42,0", 2, 0, 0, 2),
    ],
)
def test_the_local_engine_starts_again(codes, nodes, restarts, ends, tries, tmp_path):
    process = local_run(tmp_path, codes, nodes=nodes, max_restarts=restarts)
    assert process.wait(60) == ends, process.stderr.read()
    process.stderr.close()
    for rank in range(nodes):
        assert len((tmp_path / f"tries.{rank}").read_text()) == tries
    assert not (tmp_path / "first.pid").exists()


def test_the_local_engine_hands_a_signal_on_and_waits(tmp_path):
    process = local_run(tmp_path, "wait,0", nodes=2)
    while not all((tmp_path / f"ready.{rank}").exists() for rank in range(2)):
        assert process.poll() is None
    command = ENGINES["local"].cancel(job(), tmp_path)
    assert command == ["kill", "-TERM", str(process.pid)]
    subprocess.run(command, check=True)
    assert process.wait(60) == 42
    process.stderr.close()
    with pytest.raises(ConfigError, match="is not running on this machine"):
        ENGINES["local"].status(job(), tmp_path)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="runs where shellcheck is installed")
@pytest.mark.parametrize("engine", ["local", "slurm", "tpu_vm", "skypilot"])
def test_shellcheck(engine, tmp_path):
    more = {"accelerator": "v6e-8", "zone": "z"} if engine == "tpu_vm" else {"nodes": 2}
    more |= {"array": 2, "nodes": 1} if engine == "slurm" else {}
    files = ENGINES[engine].render(job(image="x/y:1", arguments=("it's", "$(x)"), **more))
    (text,) = files.values()
    if engine == "skypilot":
        text = "#!/bin/bash\n" + yaml.safe_load(text)["run"]
    path = tmp_path / "script.sh"
    path.write_text(text)
    # SC2016: $(x) in single quotes is meant to stay.
    done = subprocess.run(["shellcheck", "--exclude=SC2016", path], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout
