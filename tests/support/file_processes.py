"""Each test file of an xdist worker in a process of its own, so that what TensorFlow and XLA keep goes with the file.

TensorFlow keeps each program that it has compiled until the process ends: workers that ran all files grew to 7 GB. So a
worker runs no test. Before it collects any, it forks a nursery, which imports TensorFlow and runs nothing of it, for
forking is safe only until the first operation starts TensorFlow's threads. The nursery forks a process for each file.
That collects its file alone, runs the tests that the worker names, and sends their reports.

    worker -> nursery: the file's path
    worker -> file's process: (node id, that of the next one, or None after the last of the file)
    file's process -> worker: reports; None after each test
    nursery -> worker: the wait status of a file's process that has ended
"""

import gc
import importlib
import os
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

# What most files import, and what takes long.
IMPORTED = ("tests.catalog", "loops.train")


class Worker:
    """The plugin of an xdist worker: it lets others run the tests, and passes their reports on."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.file: str | None = None  # whose process waits for a test
        self.connection, theirs = Pipe()
        if os.fork() == 0:
            self.connection.close()
            try:
                _nursery(theirs, _options(config))
            finally:
                os._exit(0)
        theirs.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Have a test run, and hand its reports on."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        if self.file != str(item.path):
            self.file = str(item.path)
            self.connection.send(self.file)
        same = nextitem is not None and str(nextitem.path) == self.file
        self.connection.send((item.nodeid, nextitem.nodeid if same else None))
        while isinstance(answer := self.connection.recv(), dict):
            self._pass_on(item, self.config.hook.pytest_report_from_serializable(config=self.config, data=answer))
        if answer is None and not same:
            answer = self.connection.recv()  # the status of a process that has done all
        if answer is not None:
            self.file = None
            if answer != 0:
                self._pass_on(item, _crash(item, answer))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _pass_on(self, item: pytest.Item, report: pytest.TestReport) -> None:
        item.ihook.pytest_runtest_logreport(report=report)


def _options(config: pytest.Config) -> list[str]:
    """What a file's pytest must know of the worker's."""
    chosen = config.option
    return [f"--basetemp={chosen.basetemp}", f"--tb={chosen.tbstyle}", *["--showlocals"] * chosen.showlocals]


def _crash(item: pytest.Item, status: int) -> pytest.TestReport:
    words = f"the process of {item.path} ended with the wait status {status} in this test or at the file's end"
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", words, "call")


def _nursery(connection: Connection, options: list[str]) -> None:
    """Fork a process for each file that is asked for, one at a time, until nobody asks any more."""
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # for the lines that TensorFlow's libraries print when they are loaded
    try:
        for name in IMPORTED:
            importlib.import_module(name)
    finally:
        os.dup2(stderr, 2)
    gc.collect()
    gc.freeze()  # what is imported stays: no file's garbage collection goes over it
    while True:
        try:
            path = connection.recv()
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(nowhere, 1)  # the worker's own reports are those that are seen
                code = pytest.main([path, *options], [_File(connection)])
            finally:
                os._exit(0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else 1)
        _, status = os.waitpid(child, 0)
        while connection.poll():
            connection.recv()  # a test that it has not taken any more
        connection.send(status)


class _File:
    """The plugin of a file's process: it runs the tests that the worker names, in the order that it names them."""

    def __init__(self, connection: Connection):
        self.connection = connection

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run tests until the last."""
        items, following = {item.nodeid: item for item in session.items}, ""
        while following is not None:
            name, following = self.connection.recv()
            item, nextitem = items[name], items[following] if following is not None else None
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            self.connection.send(None)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send a report."""
        self.connection.send(self.config.hook.pytest_report_to_serializable(config=self.config, report=report))

    def pytest_configure(self, config: pytest.Config) -> None:
        """Keep the config, which knows how to send reports."""
        self.config = config
