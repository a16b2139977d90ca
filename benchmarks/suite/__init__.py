"""hygge and its peers on the same data, in one run: `python -m benchmarks.suite --help`.

contenders.py    reads the files in benchmarks/contenders/
environments.py  makes an environment of each
data.py          makes the data
jobs.py          the table of jobs
room.py          folders, servers, loaded tables
rounds.py        runs the contenders in turn
launch.py        measures one command with all that it starts
checks.py, tables.py    compare a target with its source
bars.py          what hygge may need, as data
report.py, chart.py     Markdown, JSON, SVG
guard.py         two commits of hygge by CPU seconds
"""
