# Configuration of condastore. Use it with: condastore serve --config=FILE
#
# Every setting is here with its default; remove the # before one to change it. Where the default
# depends on the machine or on other settings, the text above says how, and the value is `...`.

c = get_config()

#-------------------------------------------------------------------------------------------------
# CondaStoreServer: Serve condastore: build, version and share conda environments.

# Address to listen on. Only loopback, until condastore has users and permissions.
# c.CondaStoreServer.address = '127.0.0.1'

# Configuration file, in Python.
# c.CondaStoreServer.config_file = ''

# Lowest level of what is logged: 10 debug, 20 information, 30 warning, 40 error.
# c.CondaStoreServer.log_level = 20

# Port to listen on; 0 takes a free one.
# c.CondaStoreServer.port = 8080

# Print the admin token at start.
# c.CondaStoreServer.print_token = True

# Path that all URLs begin with.
# c.CondaStoreServer.url_prefix = '/'

#-------------------------------------------------------------------------------------------------
# CondaStore: Where things are kept, and how environments are solved and built.

# Artifacts that are made of every build.
# c.CondaStore.build_artifacts = ['LOCKFILE', 'YAML']

# Artifacts that stay when a build is deleted.
# c.CondaStore.build_artifacts_kept_on_deletion = ['LOGS', 'LOCKFILE', 'YAML']

# Template of the directory that holds a build's prefix. Keys: store_directory, namespace.
# c.CondaStore.build_directory = '{store_directory}/{namespace}'

# Form of the build keys: 1 (full hash and time), 2 (short hash and seconds), or 3 (32 hexadecimal
# digits; no namespace in the path and no environment link).
# c.CondaStore.build_key_version = 2

# Credentials of private channels and package indexes, kept out of every log and lockfile: a list
# of `{"url": prefix, ...}` with `"token"` (an anaconda token), `"bearer"`, or `"username"` and
# `"password"`.
# c.CondaStore.channel_credentials = []

# Compile Python packages once and link the byte code into environments.
# c.CondaStore.compile_bytecode = True

# Channels that a specification may name; empty allows all.
# c.CondaStore.conda_allowed_channels = []

# URL before a channel that is given by its bare name.
# c.CondaStore.conda_channel_alias = 'https://conda.anaconda.org'

# What solves and installs: `rattler`, the bundled engine, or the name or path of `conda`, `mamba`
# or `micromamba`.
# c.CondaStore.conda_command = 'rattler'

# Channels of a specification that names none.
# c.CondaStore.conda_default_channels = ['conda-forge']

# Dependencies of a specification that names none.
# c.CondaStore.conda_default_packages = []

# Extra arguments for an external conda command's solve.
# c.CondaStore.conda_flags = '--strict-channel-priority'

# Dependencies that are added to specifications that lack them.
# c.CondaStore.conda_included_packages = []

# Channels whose packages can be searched; nothing uses it yet.
# c.CondaStore.conda_indexed_channels = ['main', 'conda-forge', 'https://repo.anaconda.com/pkgs/main']

# Seconds that one solve may take.
# c.CondaStore.conda_max_solve_time = 300

# Platforms of which channels are indexed; nothing uses it yet. Default: the server's own and
# `noarch`.
# c.CondaStore.conda_platforms = ...

# Package names that every specification must contain.
# c.CondaStore.conda_required_packages = []

# Platforms that a lockfile covers. Default: the server's own.
# c.CondaStore.conda_solve_platforms = ...

# Directory of the database, logs, artifacts and the secret. Default: the user's data directory
# for `condastore`, such as `~/.local/share/condastore`.
# c.CondaStore.data_directory = ...

# SQLAlchemy URL of the database. Default: `sqlite:///{data_directory}/condastore.sqlite`.
# c.CondaStore.database_url = ...

# Group of built files. Default: the daemon's group.
# c.CondaStore.default_gid = ...

# Namespace of requests that name none.
# c.CondaStore.default_namespace = 'default'

# Octal mode of directories and executable files in a build; files shared between builds by hard
# links stay read-only.
# c.CondaStore.default_permissions = '775'

# Owner of built files. Default: the daemon's user.
# c.CondaStore.default_uid = ...

# Template of the symbolic link that points to an environment's current build. Keys:
# store_directory, namespace, name.
# c.CondaStore.environment_directory = '{store_directory}/{namespace}/envs/{name}'

# Namespace of environments that come from watched files; nothing uses it yet.
# c.CondaStore.filesystem_namespace = 'filesystem'

# Bytes of address space that a build's child process may use.
# c.CondaStore.max_build_memory = 17179869184

# Seconds that a build may take, from its start to its end.
# c.CondaStore.max_build_time = 14400

# Bytes of a posted lockfile's text.
# c.CondaStore.max_lockfile_bytes = 16777216

# Bytes of a build's log; what comes after is left out, and the log says so.
# c.CondaStore.max_log_bytes = 67108864

# Bytes that one package may take when it is unpacked.
# c.CondaStore.max_package_bytes = 17179869184

# Files that one package may hold.
# c.CondaStore.max_package_files = 500000

# Bytes of a specification's text.
# c.CondaStore.max_specification_bytes = 1048576

# Bytes that a build must leave free on the store's file system.
# c.CondaStore.min_free_bytes = 268435456

# Let `pip:` requirements be built from source distributions. Building one runs its author's code
# as the daemon's user; wheels run none.
# c.CondaStore.pip_allow_sdists = False

# Package index of `pip:` sections that name none. Default: what the machine's configuration of uv
# says, or else PyPI.
# c.CondaStore.pip_index_url = ...

# Pip requirements of a specification that has none.
# c.CondaStore.pypi_default_packages = []

# Pip requirements that are added to specifications that lack them.
# c.CondaStore.pypi_included_packages = []

# PyPI project names that every specification must contain.
# c.CondaStore.pypi_required_packages = []

# Seconds for which a solver trusts the channel data that it holds.
# c.CondaStore.repodata_ttl = 120

# Run the packages' post-link scripts. They run as the daemon's user, with all that it may do.
# c.CondaStore.run_link_scripts = False

# Where artifacts are kept: a class or its import path.
# c.CondaStore.storage_class = 'condastore.storage.LocalStorage'

# Bytes that must be free on the store's file system to create or update an environment.
# c.CondaStore.storage_threshold = 5368709120

# Directory of the built environments and of the package store, which must share one file system
# so that packages can be hard-linked. Default: `{data_directory}/state`.
# c.CondaStore.store_directory = ...

# Bring the database's schema up to date at start.
# c.CondaStore.upgrade_db = True

#-------------------------------------------------------------------------------------------------
# CondaStoreWorker: How the task pool runs builds.

# Builds that run at once. Default: the number of CPUs.
# c.CondaStoreWorker.concurrency = ...

# Seconds that running builds get to finish after SIGTERM; then they go back to the queue and
# start again with the next daemon.
# c.CondaStoreWorker.drain_timeout = 30.0

# Times that a task is started when the daemon dies under it.
# c.CondaStoreWorker.max_attempts = 3

# Resident bytes above which a solver process is replaced after its solve.
# c.CondaStoreWorker.max_solver_memory = 1073741824

# Solves after which a solver process is replaced.
# c.CondaStoreWorker.max_solver_uses = 200

# Seconds after which an unused solver process ends.
# c.CondaStoreWorker.solver_idle_time = 300.0

# Solver processes that are kept ready between solves.
# c.CondaStoreWorker.warm_solvers = 1

#-------------------------------------------------------------------------------------------------
# AuthenticationBackend: How callers prove who they are.

# Secret that tokens are made from. Default: 32 random bytes, made once and kept in
# `{data_directory}/secret`.
# c.AuthenticationBackend.secret = ...

#-------------------------------------------------------------------------------------------------
# LocalStorage: Keeps artifacts in a directory.

# Directory of the artifacts. Default: `{CondaStore.data_directory}/storage`.
# c.LocalStorage.storage_path = ...
