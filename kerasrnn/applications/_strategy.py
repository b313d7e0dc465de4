"""Training on several devices and machines: who takes part, and one step that all of them share."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.applications._runs import seed_states

Tensor = Any
Strategy = Literal["none", "mirrored", "multi-worker"]
# What a loss divides by: (labels, weights of the samples) -> how much of them counts.
Counted = Callable[[Tensor, Tensor], Tensor]

EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
# Which errors of TensorFlow say that another worker does not answer.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


@dataclasses.dataclass
class Team:
    """All that train one model together: processes, the workers, with one device or several each.

    Every worker has the whole model and the whole data set. A batch is cut into one share for each
    replica, a device of a worker. Of all that is computed of a share, its gradients are summed with
    the others', by the strategy; each worker then takes the same step.

    Attributes:
        kind: The strategy: `"none"`, `"mirrored"` for the devices of this machine, or `"multi-worker"`.
        workers: The addresses of all workers; none for one process alone.
        worker: The number of this one among them.
        devices: The devices of this process, known after `meet`.
    """

    kind: Strategy = "none"
    workers: Sequence[str] = ()
    worker: int = 0
    devices: Sequence[str] = ("",)
    strategy: Any = None

    @classmethod
    def of(cls, kind: Strategy) -> Team:
        """The team that a strategy, and for several workers the variable `TF_CONFIG`, describes.

        Raises:
            ValueError: If there is no such strategy, or `TF_CONFIG` is missing or wrong.

        Example:

        >>> from kerasrnn.applications._strategy import Team
        >>> Team.of("none").chief
        True
        """
        if kind == "multi-worker":
            return cls(kind, *read_tf_config(os.environ.get("TF_CONFIG")))
        if kind not in ("none", "mirrored"):
            raise ValueError(
                f"`strategy` must be one of none, mirrored, multi-worker; got {kind!r}."
            )
        return cls(kind)

    @property
    def chief(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.worker == 0

    @property
    def replicas(self) -> int:
        """How many shares a batch has."""
        return max(1, len(self.workers)) * len(self.devices)

    def meet(self, seconds: float) -> None:
        """Start the strategy, once all workers are there.

        Args:
            seconds: How long to wait for the others.

        Raises:
            ConnectionError: If one of them does not come.
            OSError: If this worker's own address cannot be used.
            ValueError: If TensorFlow was at work in this process before.
        """
        if self.kind == "none":
            return
        if self.kind == "mirrored":
            self.strategy = tf.distribute.MirroredStrategy()
        else:
            _wait_for_all(self.workers, self.worker, seconds)
            try:
                self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
            except RuntimeError as error:
                raise ValueError(
                    '`strategy` "multi-worker" must be started before TensorFlow computes anything in a '
                    f"process: begin the training in a fresh one. TensorFlow says: {error}"
                ) from error
        self.devices = self.strategy.extended.worker_devices

    def summed(self, values: Sequence[Sequence[Any]]) -> list[Any]:
        """The sums over all replicas, in one exchange.

        Args:
            values: For each replica of this process its tensors, sparse gradients among them; None in
                all replicas stays None.
        """
        there = [[value for value in own if value is not None] for own in values]
        own = self.strategy.experimental_distribute_values_from_function(
            lambda context: there[context.replica_id_in_sync_group % len(self.devices)]
        )

        def exchange(own: list[Any]) -> list[Any]:
            context = tf.distribute.get_replica_context()
            placed = [tf.identity(value) for value in own]  # on the device of the replica
            return context.all_reduce(tf.distribute.ReduceOp.SUM, placed)

        sums = iter(self.strategy.run(exchange, args=(own,)))
        return [
            None if value is None else self.strategy.experimental_local_results(next(sums))[0]
            for value in values[0]
        ]

    def pool(
        self, variables: Sequence[Any], own: Callable[[Tensor], Tensor] = lambda value: value
    ) -> None:
        """Set variables, of any numeric dtype, to the sum of what the workers have in them.

        Args:
            variables: The variables, in the same order everywhere.
            own: From a variable's value to what this worker adds of it.
        """
        if len(self.workers) < 2 or not variables:
            return
        # In this dtype counts are exact too, and every device can sum it.
        mine = [tf.cast(own(tf.convert_to_tensor(v)), tf.float64) for v in variables]
        for variable, total in zip(variables, self._over_workers(mine), strict=True):
            variable.assign(tf.cast(total, variable.dtype))

    @functools.cached_property
    def _over_workers(self) -> Any:
        """The sums of tensors of which each worker has one."""

        def sums(values: list[Any]) -> list[Any]:
            nothing = [tf.zeros_like(value) for value in values]
            return self.summed([values, *[nothing] * (len(self.devices) - 1)])

        return tf.function(sums, autograph=False)

    def own_rows(self, value: Tensor) -> Tensor:
        """What this worker has of a value with a row for each sequence of a batch, among zeros."""
        size = tf.shape(value)[0]
        start, stop = (size * end // len(self.workers) for end in (self.worker, self.worker + 1))
        return tf.pad(value[start:stop], [[start, size - stop], [0, 0]])

    def agree(self, **facts: Any) -> None:
        """See that all workers have the same data, settings or versions.

        Args:
            **facts: What must be the same, by name; the same names everywhere.

        Raises:
            ConnectionError: If a worker is lost.
            ValueError: If they differ; the message names in what.
        """
        # As many bits of each as stay exact when they are summed over all workers.
        numbers = np.array(
            [int(hashlib.sha256(repr(v).encode()).hexdigest()[:8], 16) for v in facts.values()]
        )
        found = tf.Variable(numbers)
        with _lost_workers_named():
            self.pool([found])
        same = found.numpy() == numbers * max(1, len(self.workers))
        if not same.all():
            differ = (name for name, agreed in zip(facts, same, strict=True) if not agreed)
            raise ValueError(
                f"The workers differ in {', '.join(f'{name} (here {facts[name]!r})' for name in differ)}: "
                "start each with the same command, the same files and the same versions of all packages."
            )


def read_tf_config(text: str | None) -> tuple[list[str], int]:
    """What `TF_CONFIG` says: the addresses of all workers, the chief first, and the number of this one.

    Args:
        text: The value of the variable; nothing if it is not set.

    Raises:
        ValueError: If it is wrong; the message says what was found and what must be there.

    Example:

    >>> from kerasrnn.applications._strategy import read_tf_config
    >>> read_tf_config('{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, '
    ...                '"task": {"type": "worker", "index": 0}}')
    (['a:1', 'b:1'], 1)
    """

    def wrong(what: str) -> ValueError:
        return ValueError(
            f"{what} The environment variable TF_CONFIG must name all workers, and which of them this one "
            f"is, such as {EXAMPLE}."
        )

    if not text:
        raise wrong("`strategy` is multi-worker, but TF_CONFIG is not set.")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise wrong(f"TF_CONFIG is not JSON ({error}): {text[:200]!r}.") from None
    cluster = config.get("cluster") if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not cluster:
        raise wrong(f"TF_CONFIG has no `cluster`: {text[:200]!r}.")
    if others := sorted(cluster.keys() - {"chief", "worker"}):
        raise wrong(
            f"The `cluster` of TF_CONFIG has the jobs {others}; there may be a `chief` and `worker` only."
        )
    for job, addresses in cluster.items():
        if not isinstance(addresses, list) or not addresses or not all(map(_is_address, addresses)):
            raise wrong(
                f"`{job}` in TF_CONFIG must be a list of host:port, each host a name or an IPv4 address "
                f"(TensorFlow listens to no others), got {addresses!r}."
            )
    workers = [*cluster.get("chief", []), *cluster.get("worker", [])]
    if len(set(workers)) < len(workers) or len(cluster.get("chief", [])) > 1:
        raise wrong(f"TF_CONFIG must name each worker once, and one chief at most, got {cluster}.")
    task = config.get("task")
    job, index = (task.get("type"), task.get("index")) if isinstance(task, dict) else (None, None)
    if not isinstance(job, str) or job not in cluster:
        raise wrong(
            f"The `task` of TF_CONFIG is {task!r}, the jobs of its cluster {list(cluster)}."
        )
    if type(index) is not int or not 0 <= index < len(cluster[job]):
        raise wrong(
            f"The `index` of the task in TF_CONFIG is {index!r}, and must be a number from 0 to "
            f"{len(cluster[job]) - 1}, as there are {len(cluster[job])} of `{job}`."
        )
    return workers, workers.index(cluster[job][index])


def _is_address(given: Any) -> bool:
    found = re.fullmatch(r"[\w.-]+:(\d+)", given, re.ASCII) if isinstance(given, str) else None
    return found is not None and 0 < int(found[1]) < 2**16


def _wait_for_all(workers: Sequence[str], worker: int, seconds: float) -> None:
    """Return when each of the other workers has its port open.

    TensorFlow waits for them too, but does not say for whom, and for an hour.
    """
    end = time.monotonic() + seconds
    missing = [address for address in workers if address != workers[worker]]
    port = int(workers[worker].rpartition(":")[2])
    try:
        server = socket.create_server(("", port), backlog=4 * len(workers))
    except OSError as error:
        raise OSError(
            f"This worker's address in TF_CONFIG, {workers[worker]!r}, cannot be used ({error.strerror}): "
            "end the process that has the port, or choose another."
        ) from error
    with server:
        while missing:
            missing = [address for address in missing if not _answers(address)]
            if missing and time.monotonic() > end:
                raise ConnectionError(
                    f"TF_CONFIG names {len(workers)} workers, and {', '.join(missing)} could not be "
                    f"reached within {seconds:g} s. Start every worker, each with an index of its own; see "
                    "that the addresses are right and that no firewall is between them; or wait longer, by "
                    "--worker-timeout."
                )
            time.sleep(0.1 if missing else 0)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def sequences(labels: Tensor, weights: Tensor) -> Tensor:
    """What a loss divides by that is a mean over the sequences of a batch."""
    return tf.cast(tf.shape(labels)[0], tf.float32)


class Steps:
    """What `fit` calls for each batch: a model's `train_function`, or its `test_function`.

    Args:
        team: Who takes part.
        model: A compiled model.
        count: The number of batches in an epoch.
        batch: What is done with a batch; it gives the metrics.
        carried: The model's states that go on with the next epoch: each worker has some rows of them.
    """

    def __init__(
        self,
        team: Team,
        model: Any,
        count: int,
        batch: Callable[[Any], Any],
        carried: Sequence[Any] = (),
    ) -> None:
        self.team = team
        self.model = model
        self.count = count
        self.batch = tf.function(batch, reduce_retracing=True, autograph=False)
        self.carried = carried
        self.done = 0

    def __call__(self, batches: Iterator[Any]) -> Any:
        logs = self.batch(next(batches))
        self.done += 1
        if self.done % self.count:
            return logs
        # What is reported of an epoch, and what its checkpoint holds, is that of all workers.
        self.team.pool(self.model.metrics_variables)
        self.team.pool(self.carried, self.team.own_rows)
        return self.model.get_metrics_result()


@contextlib.contextmanager
def _lost_workers_named() -> Iterator[None]:
    """Within this, TensorFlow's errors about a worker that does not answer are clear."""
    try:
        yield
    except LOST as error:
        raise ConnectionError(
            "The training stopped, as another worker is gone or does not answer. Start all workers again: "
            "a run that had begun goes on by --resume, after its last whole epoch."
        ) from error


@contextlib.contextmanager
def replicated(
    team: Team, model: Any, counted: Counted, updates: int, measured: int
) -> Iterator[None]:
    """Within this, `model.fit` and `model.evaluate` share their work with the team.

    Keras would hand the strategy the model. On several workers that fails in Keras 3.15, whose `fit` builds
    the model from what is no tensor and takes means of scalars over an axis; and it clips the gradients of
    each replica by themselves, and takes the mean of the shares' means for that of the batch. Here the
    strategy is handed the gradients alone: all else is computed as on one device, from plain variables.

    Args:
        team: Who takes part; they have met.
        model: A compiled model, the same everywhere.
        counted: What the loss divides by.
        updates: The number of batches in an epoch.
        measured: The number of batches of the validation.

    Raises:
        ConnectionError: If a worker is lost.
        ValueError: If the model has weights that are not trained, as those of a batch normalization: each
            worker would have its own.
    """
    if team.strategy is None:
        yield
        return
    if model.non_trainable_weights:
        raise ValueError(
            "`strategy` takes models all of whose weights are trained, as the workers share gradients "
            f"only; not trained are {', '.join(weight.path for weight in model.non_trainable_weights)}."
        )
    parted = hasattr(model, "part")
    (tracker,) = [metric for metric in model.metrics if metric.name == "loss"]

    def shares(batch: Any) -> Iterator[tuple[Any, Tensor]]:
        """The share of each replica of this process and its size, while the device is chosen.

        Where a batch has not a sequence for each, the share is of one that counts elsewhere, and its size
        0: layers need not take empty batches.
        """
        some = tf.nest.flatten(batch)[0]
        size = some.shape[0] or tf.shape(some)[0]
        first = team.worker * len(team.devices)
        for number, device in enumerate(team.devices, start=first):
            start, stop = (size * end // team.replicas for end in (number, number + 1))
            # What is a plain number stays one: a model may have to know the size of its batch.
            read = (max if some.shape[0] else tf.maximum)(stop, start + 1)
            if parted:
                model.part = number, team.replicas
            with tf.device(device):
                share = tf.nest.map_structure(lambda x, a=start, b=read: x[a:b], batch)
                yield share, tf.cast(stop - start, tf.float32)
        if parted:
            model.part = 0, 1

    def gradients(share: Any, rows: Tensor, whole: Tensor, size: Tensor) -> list[Any]:
        """Of the share's part in the loss of the whole batch."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(share)
        part = tf.sign(rows) * tf.math.divide_no_nan(counted(y, weights), whole)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = model.compute_loss(x, y, outputs, weights, training=True)
            # What layers add is a mean over sequences, whatever the loss is a mean of.
            added = tf.add_n(model.losses) if model.losses else 0.0
            loss = part * loss + (rows / size - part) * added
            scaled = model.optimizer.scale_loss(loss)

        def measure() -> None:
            tracker.update_state(loss * size / rows, sample_weight=rows)
            model.compute_metrics(x, y, outputs, weights)

        _unless_empty(rows, measure)
        return tape.gradient(scaled, model.trainable_weights)

    def train(batch: Any) -> Any:
        _, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        whole, size = counted(y, weights), sequences(y, weights)
        found = [gradients(*share, whole, size) for share in shares(batch)]
        model.optimizer.apply(team.summed(found), model.trainable_weights)
        return model.get_metrics_result()

    def test(batch: Any) -> Any:
        for share, rows in shares(batch):
            _unless_empty(rows, functools.partial(model.test_step, share))
        return model.get_metrics_result()

    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    # Draws of dropout of its own for each worker.
    for seed in seed_states(model):
        seed.assign_add([team.worker, 0])
    carried = getattr(model, "carried_in_training", ())
    model.train_function = Steps(team, model, updates, train, carried)
    model.test_function = Steps(team, model, measured, test)
    try:
        with _lost_workers_named():
            # The same weights everywhere, to the last bit.
            team.pool(model.weights, lambda value: value if team.chief else tf.zeros_like(value))
            yield
    finally:
        model.train_function = model.test_function = None


def _unless_empty(rows: Tensor, do: Callable[[], Any]) -> None:
    """Do it if there are rows."""

    def done() -> Tensor:
        do()
        return tf.constant(True)

    tf.cond(rows > 0, done, lambda: tf.constant(False))
