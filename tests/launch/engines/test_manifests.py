"""Manifests of JobSet and TrainJob by their typed models and a strict schema; wrong ones fail."""

import copy
import json
import os
from pathlib import Path

import pytest
import yaml

from launch.engines import ENGINES
from launch.engines.job import Job

models = pytest.importorskip(
    "kubeflow_trainer_api.models", reason="runs after `make setup-test` (kubeflow-trainer-api)"
)
SCHEMAS = os.environ.get("NEGFLAX_SCHEMA_DIR", "")
TPU = {"accelerator": "tpu-v6e-slice", "topology": "4x4", "nodes": 4, "num_slices": 2}
JOBS = {
    "tpu": TPU,
    "gpu": {
        "accelerator": "nvidia-h100-80gb:8",
        "nodes": 2,
        "secrets": ("wandb",),
        "volume": "c:/runs",
    },
    "cpu": {"time_limit": 3600},
    "array": {"array": 8},
}


def manifest(engine, **changes):
    known = {"name": "first", "module": "launch.train", "image": "x/y:1", "queue": "team"}
    job = Job(**known | {"labels": {"team": "ads"}} | changes)
    (text,) = ENGINES[engine].render(job).values()
    return yaml.safe_load(text)


def pod_of(tree):
    job = tree["spec"]["replicatedJobs"][0]["template"]["spec"]
    return job, job["template"]["spec"], job["template"]["spec"]["containers"][0]


def known_by(model, tree):
    """Whether the typed model keeps all of the tree; it may add defaults of its own."""
    return kept(tree, model.from_dict(copy.deepcopy(tree)).to_dict())


def kept(tree, known):
    if isinstance(tree, dict) and isinstance(known, dict):
        return all(value == [] or kept(value, known.get(key)) for key, value in tree.items())
    if isinstance(tree, list) and isinstance(known, list):
        return len(tree) == len(known) and all(map(kept, tree, known))
    return tree == known


@pytest.mark.parametrize("name", JOBS)
def test_a_jobset_is_what_its_model_knows(name):
    tree = manifest("jobset", **JOBS[name])
    assert known_by(models.JobsetV1alpha2JobSet, tree)
    job, pod, container = pod_of(tree)
    assert job["completions"] == job["parallelism"] and pod["restartPolicy"] == "Never"
    assert tree["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [1, 42]


def test_slices_ranks_and_members():
    tree = manifest("jobset", **TPU)
    job, pod, container = pod_of(tree)
    assert tree["spec"]["replicatedJobs"][0]["replicas"] == 2 and job["completions"] == 4
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert "alpha.jobset.sigs.k8s.io/exclusive-topology" in tree["metadata"]["annotations"]
    _, pod, container = pod_of(manifest("jobset", **JOBS["gpu"]))
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert values["JAX_COORDINATOR_ADDRESS"] == "first-workers-0-0.first:12355"
    assert values["JAX_NUM_PROCESSES"] == "2" and "JAX_PROCESS_ID" in values
    assert container["envFrom"] == [{"secretRef": {"name": "wandb"}}]
    _, _, container = pod_of(manifest("jobset", **JOBS["array"]))
    assert container["command"][-1] == "--sweep_member=$(SWEEP_MEMBER)"
    assert container["env"][0]["name"] == "SWEEP_MEMBER"


def test_the_command_of_the_cluster_toolkit():
    job = Job("first", "launch.train", **TPU | {"num_slices": 1, "image": "x/y:1", "queue": "q"})
    words = ENGINES["jobset"].gcluster(job)
    assert {"--compute-type=v6e-16", "--num-nodes=4", "--queue=q"} <= set(words)
    assert "--command=python -m launch.train --workdir=runs/job" in words


@pytest.mark.parametrize("changes", [{}, JOBS["gpu"] | {"secrets": ()}, JOBS["cpu"]])
def test_a_trainjob_is_what_its_model_knows(changes):
    tree = manifest("trainjob", **changes)
    assert known_by(models.TrainerV1alpha1TrainJob, tree)
    assert tree["spec"]["runtimeRef"]["name"] == "jax-distributed"


def noticed(model, tree):
    """Whether the model refuses a wrong tree, or drops a part of it."""
    try:
        return not known_by(model, tree)
    except ValueError:  # pydantic's are
        return True


def renamed(path, new):
    """A mutation: the last key of the path gets another name."""

    def change(tree):
        *way, last = path
        for key in way:
            tree = tree[key]
        tree[new] = tree.pop(last)

    return change


def replaced(path, value):
    """A mutation: what stands at the path becomes another value."""

    def change(tree):
        *way, last = path
        for key in way:
            tree = tree[key]
        tree[last] = value

    return change


def removed(path):
    """A mutation: what stands at the path goes."""

    def change(tree):
        *way, last = path
        for key in way:
            tree = tree[key]
        del tree[last]

    return change


JOB = ("spec", "replicatedJobs", 0, "template", "spec")
POD = (*JOB, "template", "spec")
RULE = ("spec", "failurePolicy", "rules", 0)
WRONG = [
    renamed(("spec", "replicatedJobs"), "jobs"),
    replaced(("spec", "replicatedJobs", 0, "replicas"), "2"),
    renamed((*RULE, "onJobFailureReasons"), "reasons"),
    renamed((*JOB, "podFailurePolicy"), "podFailurePolicies"),
    replaced((*JOB, "completions"), "four"),
    renamed((*POD, "terminationGracePeriodSeconds"), "gracePeriodSeconds"),
    replaced((*POD, "containers", 0, "command"), "python"),
]
WRONG_BY_SCHEMA = [
    replaced((*RULE, "action"), "Restart"),
    removed((*RULE, "name")),
    removed(("spec", "replicatedJobs", 0, "name")),
]


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_jobset_is_noticed_by_the_model(change):
    tree = manifest("jobset", **TPU)
    change(tree)
    assert noticed(models.JobsetV1alpha2JobSet, tree)


@pytest.mark.parametrize(
    "change",
    [
        renamed(("spec", "runtimeRef"), "runtime"),
        replaced(("spec", "trainer", "numNodes"), "two"),
        renamed(("spec", "trainer", "resourcesPerNode"), "resources"),
        renamed(("spec", "runtimePatches", 0, "trainingRuntimeSpec"), "spec"),
    ],
)
def test_a_wrong_trainjob_is_noticed(change):
    tree = manifest("trainjob", **JOBS["gpu"] | {"secrets": ()})
    change(tree)
    assert noticed(models.TrainerV1alpha1TrainJob, tree)


@pytest.fixture(scope="module")
def strict():
    jsonschema = pytest.importorskip("jsonschema", reason="runs after `make setup-test`")
    if not SCHEMAS:
        pytest.skip("runs where NEGFLAX_SCHEMA_DIR names a folder with jobset.schema.json")
    schema = json.loads((Path(SCHEMAS) / "jobset.schema.json").read_text())
    return jsonschema.Draft7Validator(schema)


@pytest.mark.parametrize("name", JOBS)
def test_a_jobset_by_the_strict_schema(strict, name):
    assert not list(strict.iter_errors(manifest("jobset", **JOBS[name])))


@pytest.mark.parametrize("change", WRONG + WRONG_BY_SCHEMA)
def test_a_wrong_jobset_by_the_strict_schema(strict, change):
    tree = manifest("jobset", **TPU)
    change(tree)
    assert list(strict.iter_errors(tree))
