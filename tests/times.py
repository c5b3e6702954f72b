"""Where the time of a run went, by file: printed at the end of long ones."""

from __future__ import annotations

from collections import Counter

import pytest

LONG_RUN_S = 60.0
SHOWN = 25


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
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
