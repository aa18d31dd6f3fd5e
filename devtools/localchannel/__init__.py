"""A real conda channel, made from the running interpreter and wheels from PyPI.

Tests, the demo and the benchmarks need packages that solve, install and run, on machines
that reach no conda channel. :func:`make_channel` makes such a channel::

    channel = make_channel("small", Path("/somewhere/small"))

The parts, in the order in which they are used:

==================  ==========================================================
``channel``         one channel from start to finish, once, whoever else wants it
``variants``        what is in each channel: pinned requirements, as data
``downloads``       the wheels of a variant, cached
``wheels``          one wheel, read
``conversion``      a wheel turned into a package
``requirements``    PEP 508 requirements as conda match specs
``interpreter``     the running Python turned into a package
``relocation``      its files made fit for any prefix
``elf``             the little of ELF that moving a binary needs
``package``         a package, written as ``.conda`` or ``.tar.bz2``
``index``           ``repodata.json`` and ``channeldata.json``
``synthetic``       an index of any size, without packages
``hostile``         packages that attack whoever installs them
``rawpackage``      their archives, written just as they are said to be
``server``          a channel over HTTP, with faults on demand
==================  ==========================================================
"""

from devtools.localchannel.channel import make_channel

__all__ = ["make_channel"]
