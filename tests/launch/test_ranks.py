"""Where a process finds the others of its run: by flags and environment alone."""

import pytest

from launch.ranks import Spec, spec_of
from negflax.config import ConfigError

SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "2",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
    "SLURM_STEP_NODELIST": "gpu[012-015]",
}
PORT = 61440 + 77 * 16 + 3


def spec(given=None, **env):
    return spec_of(given or {}, env)


def named(prefix, count, index, address):
    names = ("NUM_PROCESSES", "PROCESS_ID", "COORDINATOR_ADDRESS")
    return dict(zip((prefix + n for n in names), (str(count), str(index), address), strict=True))


def test_the_default_is_one_process():
    assert spec() == Spec(1, 0, "", None, "")


@pytest.mark.parametrize("said", range(4))
def test_precedence(said):
    """Each in its turn outweighs all that stand behind it, and is alone enough."""
    levels = [
        ({"num_processes": "5", "process_id": "4", "coordinator_address": "a:1"}, {}),
        ({}, named("NEGFLAX_", 4, 3, "b:2")),
        ({}, named("JAX_", 3, 2, "c:3")),
        ({}, {"SKYPILOT_NODE_IPS": "1.2.3.4\n1.2.3.5", "SKYPILOT_NODE_RANK": "1"}),
    ]
    expected = [Spec(5, 4, "a:1"), Spec(4, 3, "b:2"), Spec(3, 2, "c:3"), Spec(2, 1, "1.2.3.4:8476")]
    below, given = dict(SLURM), {}
    for flags, env in levels[said:]:
        below |= env
        given |= flags
    assert spec(given, **below) == expected[said]
    assert spec(levels[said][0], **levels[said][1]) == expected[said]


def test_one_process_wherever_it_runs():
    assert spec(**SLURM, NEGFLAX_NUM_PROCESSES="1") == Spec()


def test_parts_may_come_from_different_places():
    found = spec({"process_id": "1"}, NEGFLAX_NUM_PROCESSES="2", JAX_COORDINATOR_ADDRESS="host")
    assert found == Spec(2, 1, "host:8476")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (named("NEGFLAX_", 2, 2, "a:1"), "process 2 of 2"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": "a"}, "process .unknown. of 2"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "need --coordinator_address"),
        (named("NEGFLAX_", "two", 0, "a:1"), "write whole numbers"),
        ({"JOB_COMPLETION_INDEX": "0", "NEGFLAX_JOB_INDEX": "1"}, "NEGFLAX_HOSTS_PER_JOB"),
    ],
)
def test_inconsistent_settings_are_refused(env, message):
    with pytest.raises(ConfigError, match=message):
        spec(**env)


def test_an_indexed_job_counts_its_own_processes_within_its_job_set():
    env = {
        "NEGFLAX_NUM_PROCESSES": "8",
        "NEGFLAX_COORDINATOR_ADDRESS": "set-workers-0-0.set:1",
        "JOB_COMPLETION_INDEX": "3",
    }
    assert spec(**env).index == 3
    assert spec(**env, NEGFLAX_JOB_INDEX="1", NEGFLAX_HOSTS_PER_JOB="4").index == 7


def test_an_indexed_job_alone_is_an_array_of_runs():
    assert spec(JOB_COMPLETION_INDEX="3").count == 1


def test_a_slurm_task_that_has_its_node_takes_all_of_its_gpus():
    assert spec(**SLURM, CUDA_VISIBLE_DEVICES="0,1,2,3") == Spec(4, 2, f"gpu012:{PORT}", None)


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({}, (2, 3)),
        ({"SLURM_GPUS_PER_TASK": "2"}, None),
        ({"SLURM_TRES_PER_TASK": "gres:gpu:2"}, None),
        ({"CUDA_VISIBLE_DEVICES": ""}, None),
        ({"SLURM_NODEID": "3"}, None),
        ({"JAX_LOCAL_DEVICE_IDS": "1"}, (1,)),
    ],
)
def test_slurm_tasks_of_one_node_share_its_gpus(changes, ids):
    several = SLURM | {"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}
    assert spec(**{**several, "CUDA_VISIBLE_DEVICES": "0,1,2,3"} | changes).local_device_ids == ids


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("one", "one"),
        ("one,two", "one"),
        ("n[001-015],two", "n001"),
        ("n[001,007-015]", "n001"),
        ("n[3-4]-ib", "n3-ib"),
    ],
)
def test_the_first_of_slurms_nodes(nodes, host):
    assert spec(**SLURM | {"SLURM_STEP_NODELIST": nodes}).address == f"{host}:{PORT}"


def test_a_batch_script_without_srun_is_one_process():
    assert spec(**{k: v for k, v in SLURM.items() if k != "SLURM_STEP_ID"}).count == 1
    assert spec(**SLURM | {"SLURM_STEP_ID": "batch"}).count == 1


@pytest.mark.parametrize(
    ("env", "tpu", "detection"),
    [
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True, "gketpu"),
        ({"TPU_PROCESS_ADDRESSES": "a,b"}, True, "gketpu"),
        ({}, True, "gcetpu"),
        ({"TPU_SKIP_MDS_QUERY": "1"}, True, ""),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, False, ""),
        ({"OMPI_MCA_orte_hnp_uri": "1;tcp://10.0.0.1:2"}, False, "ompi"),
    ],
)
def test_what_jax_detects_by_itself(env, tpu, detection):
    assert spec_of({}, env, tpu).detection == detection
