"""Meshes of fake devices in this process, and two processes that meet over loopback."""

import socket
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import devices, losses, program, rollcall
from jaxnn.learners import supervised
from jaxnn.members import Alone, Keys
from jaxnn.models import MLP, functional
from jaxnn.train import fit, sweep
from jaxnn.types import InputError, Learner
from tests import processes

LAUNCHED = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK")


HIDDEN = 7


def classifier(learning_rate=0.5):
    loss = losses.softmax_cross_entropy_with_integer_labels
    return supervised(*functional(MLP((HIDDEN, 3))), loss, optax.sgd(learning_rate, momentum=0.9), metrics={"accuracy": losses.accuracy})


LEARNER = classifier()


def images(count=48):
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, count)
    image = generator.integers(0, 40, (count, 4, 4, 1)) + 80 * (label[:, None, None, None] == np.arange(4)[:, None, None])
    return {"image": image.astype(np.uint8), "label": label.astype(np.int32)}


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


def measured(run):
    """All that must not depend on the devices."""
    return run.state, run.history.train, run.history.evaluation, run.history.diverged_at


# A mesh in one process


def test_a_mesh_has_all_devices_or_the_first_few():
    assert devices.mesh().shape == {"data": 8}
    few = devices.mesh("members", devices=3)
    assert few.devices.tolist() == jax.devices()[:3]
    assert few.axis_names == ("members",)
    assert few.axis_types == (jax.sharding.AxisType.Auto,)
    assert not devices.several_processes(few)
    for wrong in (0, 9):
        with pytest.raises(InputError, match=f"devices must be from 1 to 8, the number of cpu devices here, got {wrong}"):
            devices.mesh(devices=wrong)


def test_what_is_replicated_is_whole_on_every_device():
    tree = {"x": jnp.arange(6.0), "key": jax.random.key(1), "y": np.ones(3)}
    everywhere = devices.replicated(tree, devices.mesh())
    assert all(len(shard.data) == 6 for shard in everywhere["x"].addressable_shards)
    assert len(everywhere["key"].sharding.device_set) == 8


def test_arrays_that_devices_share_come_to_the_host_whole():
    shared = devices.placed({"x": np.arange(16)}, NamedSharding(devices.mesh(), P("data")))
    assert [len(shard.data) for shard in shared["x"].addressable_shards] == [2] * 8
    back = devices.to_host(shared)
    assert isinstance(back["x"], np.ndarray)
    np.testing.assert_array_equal(back["x"], np.arange(16))


def test_one_process_agrees_with_itself():
    assert devices.agreed([3, 0.25], devices.mesh()).tolist() == [3, 0.25]
    assert devices.of_first([3, 0.25], None).tolist() == [3, 0.25]


# fit over a mesh


@pytest.mark.parametrize("batch_size", [16, None])
def test_devices_that_share_a_batch_change_nothing(batch_size, monkeypatch):
    monkeypatch.setattr(program, "EVALUATION_ROWS", 20)  # shared in blocks of 16
    monkeypatch.setattr(program, "MEMBER_ROWS", 1)
    data, settings = images(), {"batch_size": batch_size, "num_steps": 7, "eval_every": 4, "eval_data": images(45), "label": None}
    alone = fit(LEARNER, jax.random.key(3), data, **settings)
    shared = fit(LEARNER, jax.random.key(3), data, mesh=devices.mesh(), **settings)
    close(measured(shared), measured(alone))
    assert all(leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(shared.state))
    first = fit(LEARNER, jax.random.key(3), data, mesh=devices.mesh(), **settings | {"num_steps": 4})
    rest = fit(LEARNER, jax.random.key(3), data, mesh=devices.mesh(), start=(4, first.state), **settings)
    jax.tree.map(np.testing.assert_array_equal, rest.state, shared.state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(first.state))


@pytest.mark.parametrize("batch_size", [40, None])
def test_each_device_works_on_its_rows_alone(batch_size, optimised):
    """Of 40 rows, or of all 48, each device gathers and multiplies its eighth, and what it found is summed up once a step."""
    mesh = devices.mesh()
    members = Alone(LEARNER, mesh)
    keys, data = devices.replicated((Keys(*jax.random.split(jax.random.key(0), 4)), images()), mesh)
    plan = program.plan(members, {}, keys, data, batch_size, 5)
    state = program.init(members, {}, keys, program.first_batch(data, batch_size))
    text = program.advance.jitted.lower(members, plan, {}, keys, state, data, np.int32(0), np.int32(5)).compile().as_text()
    rows = batch_size or 48
    assert f"f32[{rows // 8},{HIDDEN}]" in text
    assert f"f32[{rows},{HIDDEN}]" not in text
    assert f"{rows},4,4,1]" not in text.replace("u8[48,4,4,1]", "")
    assert text.count(" all-reduce(") == 1


def test_rows_that_devices_cannot_share_evenly_are_an_error_in_words():
    for batch_size, message in (
        (20, "batch_size 20 is no multiple of the 8 devices that share them; the nearest is 16"),
        (3, "nearest is 8"),
    ):
        with pytest.raises(InputError, match=message):
            fit(LEARNER, jax.random.key(0), images(), batch_size=batch_size, num_steps=1, mesh=devices.mesh())
    with pytest.raises(InputError, match="all 45 examples at once are no multiple of the 8 devices that share them; the nearest is 48"):
        fit(LEARNER, jax.random.key(0), images(45), num_steps=1, mesh=devices.mesh())
    own = Learner(lambda key, batch: jnp.zeros(()), lambda key, state, batch: (state, {}), lambda *_: {})
    with pytest.raises(InputError, match="there is no data"):
        fit(own, jax.random.key(0), num_steps=1, mesh=devices.mesh())


# Two processes

TWO = """
import numpy as np
from jaxnn import loop
from jaxnn.types import InputError
from tests import test_devices
mesh, number = devices.mesh(), jax.process_index()
loop.CHUNK_SECONDS *= 1 - number  # left to itself, process 1 would take one step at a time
results = test_devices.work(mesh)
results["agreed"] = devices.agreed([2**31 + number, -number, 0.1], mesh)
results["of_first"] = devices.of_first([2**31 + number, -number, 0.1], mesh)
try:
    devices.replicated({"fine": np.ones(3), "data": np.full(2, number)}, mesh)
except InputError as error:
    print(error)
try:
    devices.mesh(devices=3)
except InputError as error:
    print(error)
np.savez(f"{number}.npz", **results)
"""


def work(mesh):
    """Both kinds of sharing, and a sweep that goes on from its sharded state, as named arrays on the host."""
    key, data = jax.random.key(5), images()
    settings = {"batch_size": 12, "eval_every": 4, "eval_data": images(20), "label": None, "mesh": mesh}
    grid = {"seeds": 1, "axes": {"learning_rate": [0.1, 0.3, 0.5]}, **settings}  # three members for four devices
    first = sweep(classifier, key, data, num_steps=4, **grid)
    runs = {
        "fit": fit(LEARNER, key, data, num_steps=6, **settings),
        "sweep": sweep(classifier, key, data, num_steps=7, **grid),
        "rest": sweep(classifier, key, data, num_steps=7, start=(4, first.state), **grid),
    }
    assert mesh is None or not jax.tree.leaves(first.state)[0].is_fully_addressable
    named = {name: jax.tree_util.tree_leaves_with_path(devices.to_host(measured(run))) for name, run in runs.items()}
    return {name + jax.tree_util.keystr(path): leaf for name, leaves in named.items() for path, leaf in leaves}


def test_two_processes_compute_what_one_does(tmp_path):
    job = processes.start(TWO, tmp_path)
    alone = work(None)
    for number, printed in enumerate(job.wait()):
        assert "process 1 brings another ['data'] (2,) than process 0: they must be equal" in printed
        assert "3 of 4 devices: of several processes all devices take part" in printed
        results = dict(np.load(tmp_path / f"{number}.npz"))
        assert results.pop("agreed").tolist() == [2**31 + 1, 0, 0.1]
        assert results.pop("of_first").tolist() == [2**31, 0, 0.1]
        assert results.keys() == alone.keys()
        close(results, alone)


# How processes find each other


def meet(arguments, port=None):
    """`rollcall.meet` as several processes would call it, in threads: the error of each, None where all is well."""
    coordinator = f"127.0.0.1:{port or processes.free_port()}"
    errors = [None] * len(arguments)

    def one(index, num_processes, process_id, seconds=10):
        try:
            rollcall.meet(coordinator, num_processes, process_id, seconds)
        except InputError as error:
            errors[index] = str(error)

    threads = [in_background(one, index, *values) for index, values in enumerate(arguments)]
    for thread in threads:
        thread.join(20)
    return errors


def in_background(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def test_all_go_on_when_all_are_there():
    assert meet([(3, 2), (3, 0), (3, 1)]) == [None] * 3


def test_all_hear_who_is_missing():
    assert meet([(4, 0, 0.5), (4, 2, 0.5)]) == ["processes 1, 3 of 0 … 3 did not come within 0.5 seconds"] * 2


def test_all_hear_of_a_number_given_twice_or_told_wrongly():
    twice = meet([(3, 0), (3, 1), (3, 1)])
    assert twice == ["two processes have process_id 1: give each its own, 0 … 2"] * 3
    unequal = meet([(2, 0), (3, 1)])
    assert unequal == ["process 0 was told of 2 processes, process 1 of 3: give all the same num_processes"] * 2


def test_a_coordinator_that_is_not_there_is_waited_for_only_so_long():
    (error,) = meet([(2, 1, 0.3)])
    assert "nobody answers at the coordinator's address 127.0.0.1:" in error
    assert "within 0.3 seconds. Has process 0 started" in error


def test_a_port_in_use_and_a_stranger_behind_it():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as connection:
                connection.sendall(b"HTTP/1.0 400 Bad request\n")

        stranger = in_background(answer)
        port = server.getsockname()[1]
        (error,) = meet([(2, 1)], port)
        assert f"what answers at the coordinator's address 127.0.0.1:{port} is not process 0 of this job" in error
        stranger.join(20)
        (error,) = meet([(2, 0)], port)
        assert f"cannot listen at port {port}: Address already in use. Name another port" in error


def test_a_stranger_does_not_count_as_a_process():
    port, errors = processes.free_port(), []
    waiting = in_background(lambda: errors.extend(meet([(2, 0)], port)))
    with connected(port) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\n")
    errors.extend(meet([(2, 1)], port))
    waiting.join(20)
    assert errors == [None, None]


def connected(port):
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except ConnectionRefusedError:
            time.sleep(0.05)
    pytest.fail(f"nobody listens at {port}")


@pytest.fixture
def asked(monkeypatch):
    """What `jax.distributed.initialize` would have been asked, and no launcher around."""
    calls = []
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **settings: calls.append(settings))
    monkeypatch.setattr(rollcall, "meet", lambda *_: None)
    return calls


def environment(monkeypatch, text):
    for pair in text.split():
        monkeypatch.setenv(*pair.split("="))


@pytest.mark.parametrize(
    ("variables", "values", "expected"),
    [
        ("", (), {}),  # JAX looks whether this is a TPU pod
        ("SLURM_NTASKS=2 SLURM_PROCID=1 SLURM_STEP_NODELIST=node[1-2]", (), {}),
        ("OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 OMPI_MCA_orte_hnp_uri=1.0;tcp://10.0.0.1:3", (), {}),
        ("", ("a:1", 2, 0), {"coordinator_address": "a:1", "num_processes": 2, "process_id": 0}),
        ("PMI_SIZE=4 PMI_RANK=3", ("a:1",), {"coordinator_address": "a:1", "num_processes": 4, "process_id": 3}),
        ("SLURM_NTASKS=8 SLURM_PROCID=5", ("a:1", 2, 0), {"coordinator_address": "a:1", "num_processes": 2, "process_id": 0}),
    ],
)
def test_where_processes_meet_is_given_or_found(asked, monkeypatch, variables, values, expected):
    environment(monkeypatch, variables)
    devices.initialize(*values, timeout_seconds=7, heartbeat_seconds=8)
    assert asked == [{"initialization_timeout": 7, "heartbeat_timeout_seconds": 8, **expected}]


def test_a_single_process_needs_nobody(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    devices.initialize("here:1", 1, 0)

    def no_cluster(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", no_cluster)
    devices.initialize()
    assert not jax.distributed.is_initialized()


@pytest.mark.parametrize(
    ("variables", "values", "message"),
    [
        ("", ("a:1",), "coordinator without num_processes and process_id: give all three"),
        ("", (None, 2, 1), "num_processes and process_id without coordinator: give all three"),
        ("SLURM_NTASKS=4", (), "SLURM gave this job 4 tasks, but did not start this process as one of them: run it by srun"),
        ("PMI_SIZE=4 PMI_RANK=3", (), "MPI started 4 processes, this is number 3, but not where they are to meet: give a coordinator"),
    ],
)
def test_what_is_missing_is_named(asked, monkeypatch, variables, values, message):
    environment(monkeypatch, variables)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        devices.initialize(*values)
    assert not asked


def test_initialize_after_a_computation_is_too_late(monkeypatch):
    monkeypatch.setattr(rollcall, "meet", lambda *_: None)
    jnp.zeros(()).block_until_ready()
    with pytest.raises(InputError, match=r"initialize\(\) must come before the first computation"):
        devices.initialize("127.0.0.1:1", 2, 0)
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    devices.initialize()  # where there is nobody to meet it is never too late
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(InputError, match="must come before the first computation"):
        devices.initialize()


@pytest.mark.parametrize("coordinator", ["node1", "node1:", ":29500", "node1:0", "node1:70000", "node1:x"])
def test_an_address_has_a_host_and_a_port(coordinator):
    with pytest.raises(InputError, match="coordinator must be host:port, such as node1:29500, got"):
        rollcall.meet(coordinator, 2, 1, 1)


def test_a_process_is_one_of_those_that_there_are():
    with pytest.raises(InputError, match="process_id must be from 0 to num_processes - 1 = 1, got 2"):
        rollcall.meet("a:1", 2, 2, 1)
