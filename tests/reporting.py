"""What long runs tell: a failure as soon as it happens, and at the end where the time went, by file."""

from __future__ import annotations

from collections import Counter

import pytest

LONG_RUN_S = 60.0
SHOWN = 25


class Reporting:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if report.failed and terminal is not None and self._config.getoption("numprocesses", None):
            terminal.ensure_newline()
            terminal.write_line(f"FAILED at {report.when}: {report.nodeid}\n{report.longreprtext}\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        seconds: Counter[str] = Counter()
        for reports in terminalreporter.stats.values():
            for report in reports:
                if isinstance(report, pytest.TestReport):
                    seconds[report.nodeid.partition("::")[0]] += report.duration  # type: ignore[assignment]
        if seconds.total() < LONG_RUN_S:
            return
        terminalreporter.write_sep("=", f"seconds by file, {SHOWN} of {len(seconds)}")
        for name, spent in seconds.most_common(SHOWN):
            terminalreporter.write_line(f"{spent:7.1f} {name}")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporting(config))
