"""How fast condastore is, and how much memory it takes, beside what the same work costs without it.

Each module measures one subject and can be run alone: `python -m benchmarks.build_warm`. All of
them: `python -m benchmarks`. With `--quick` they use a small environment, which shows that they
work, not that the targets are met.

What is compared runs in turns in the same run, so the ratios hold on a machine that others use
too; the table shows medians, and of the ratios also the least and the most. File systems get
slower after many files were removed, so everything happens in new directories and is removed at
the end; until then all of them take about 25 GB.
"""
