# Configuration of condastore. Use it with: condastore serve --config=FILE
#
# Every setting is here with its default; remove the # before one to change it. Where the default
# depends on the machine or on other settings, the text above says how, and the value is `...`.

c = get_config()

#-------------------------------------------------------------------------------------------------
# CondaStoreServer: Serve condastore: build, version and share conda environments.

# Routes of your own: tuples of path, method and Starlette handler (docs/hooks.md).
# c.CondaStoreServer.additional_routes = []

# Address to listen on; 0.0.0.0 for all of this machine's.
# c.CondaStoreServer.address = '127.0.0.1'

# Names that requests may be for. Default: on a loopback address localhost, 127.0.0.1 and ::1,
# else any.
# c.CondaStoreServer.allowed_hosts = ...

# How people sign in: a class or its import path, such as `condastore.auth.PAMAuthentication`.
# c.CondaStoreServer.authentication_class = 'condastore.auth.TokenAuthentication'

# Believe `X-Forwarded-Proto`, `-Host` and `-For`, and `X-Request-Id`; only behind a proxy that
# sets them, since everybody can send them.
# c.CondaStoreServer.behind_proxy = False

# File with the certificate, and those that it rests on, in PEM form, to serve HTTPS; `keyfile`
# must be set too. Both are read anew at SIGHUP.
# c.CondaStoreServer.certfile = ''

# Configuration file, in Python.
# c.CondaStoreServer.config_file = ''

# Regular expression of such origins. The default is conda-store's, which its JupyterLab extension
# needs; the cookie is not sent from other sites.
# c.CondaStoreServer.cors_allow_origin_regex = '.*'

# Origins whose pages may read answers (CORS).
# c.CondaStoreServer.cors_allow_origins = []

# Serve `/metrics` and `/celery`.
# c.CondaStoreServer.enable_metrics = True

# Serve images at `/v2/` (docs/registry.md).
# c.CondaStoreServer.enable_registry = True

# Serve the web interface, at `/ui/` and `/admin/`.
# c.CondaStoreServer.enable_ui = True

# Seconds after which a connection ends that sends no whole request.
# c.CondaStoreServer.keep_alive_timeout = 5.0

# File with the certificate's private key, in PEM form.
# c.CondaStoreServer.keyfile = ''

# Lowest level of what is logged: 10 debug, 20 information, 30 warning, 40 error.
# c.CondaStoreServer.log_level = 20

# Connections at once; others wait until one of them ends. The limit of open files (`ulimit -n`),
# less some for builds, counts as well.
# c.CondaStoreServer.max_connections = 16384

# Rows of a page of a list.
# c.CondaStoreServer.max_page_size = 100

# Port to listen on; 0 takes a free one.
# c.CondaStoreServer.port = 8080

# Print the admin token at start.
# c.CondaStoreServer.print_token = True

# Seconds that a request's body may pause while it comes; then it is refused (408).
# c.CondaStoreServer.read_timeout = 60.0

# Host, and port, under which clients know the registry, as in `registry.example.org`. Default:
# that of the request.
# c.CondaStoreServer.registry_external_url = ...

# Values for the templates of the pages: `banner` is shown above the login form.
# c.CondaStoreServer.template_vars = {}

# Directory `dist` of the npm package `@conda-store/conda-store-ui`, to serve conda-store's web
# interface at `/ui/`; condastore's own is then at `/admin/` only.
# c.CondaStoreServer.ui_directory = ''

# Path of a Unix socket to listen on instead of a port, as for a proxy beside it.
# c.CondaStoreServer.unix_socket = ''

# Octal mode of that socket: who may write to it may connect.
# c.CondaStoreServer.unix_socket_mode = '666'

# Path that all URLs begin with.
# c.CondaStoreServer.url_prefix = '/'

#-------------------------------------------------------------------------------------------------
# CondaStore: Where things are kept, and how environments are solved and built.

# Compression of archives: `tar.gz`, which every tool reads, or `tar.zst`, which is smaller and
# sooner unpacked.
# c.CondaStore.archive_format = 'tar.gz'

# Days for which the audit log keeps who changed what.
# c.CondaStore.audit_days = 365

# Entries that the audit log has at most; the oldest go first.
# c.CondaStore.audit_entries = 100000

# Artifacts that are made of every build: `LOCKFILE`, `YAML`, `CONDA_PACK` (an archive),
# `CONSTRUCTOR_INSTALLER`, `DOCKER_MANIFEST` (an image). The others are made when somebody asks
# for them.
# c.CondaStore.build_artifacts = ['LOCKFILE', 'YAML', 'CONDA_PACK']

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

# Channels whose packages can be searched: names or URLs.
# c.CondaStore.conda_indexed_channels = ['main', 'conda-forge', 'https://repo.anaconda.com/pkgs/main']

# Seconds that one solve may take.
# c.CondaStore.conda_max_solve_time = 300

# Platforms of which channels are indexed, besides `noarch`. Default: the server's own.
# c.CondaStore.conda_platforms = ...

# Package names that every specification must contain.
# c.CondaStore.conda_required_packages = []

# Platforms that a lockfile covers besides the server's own.
# c.CondaStore.conda_solve_platforms = []

# Directory of the database, logs, artifacts and the secret. Default: the user's data directory
# for `condastore`, such as `~/.local/share/condastore`.
# c.CondaStore.data_directory = ...

# Connections to PostgreSQL that this daemon opens at most.
# c.CondaStore.database_connections = 10

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

# Namespace of environments that come from watched files.
# c.CondaStore.filesystem_namespace = 'filesystem'

# Seconds that a hook may take.
# c.CondaStore.hook_timeout = 30.0

# Bytes of one build's log that Redis holds at most.
# c.CondaStore.log_stream_bytes = 4194304

# Bytes of address space that each child process of a build may use, the solver's too.
# c.CondaStore.max_build_memory = 17179869184

# Seconds that a build may take, from its start to its end.
# c.CondaStore.max_build_time = 14400

# Bytes of packed packages that are kept for the archives to come; those that were not used for
# longest go first.
# c.CondaStore.max_fragments_bytes = 8589934592

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

# Bytes that must stay free on each file system that condastore writes to. With less nothing
# begins that takes space (docs/operations.md).
# c.CondaStore.min_free_bytes = 268435456

# Files that there must be room for on each of these file systems.
# c.CondaStore.min_free_inodes = 1000

# Whether nothing is fetched from channels, package indexes and the registries of base images:
# environments are made of channels on this machine, and of what was fetched before.
# c.CondaStore.offline = False

# Let `pip:` requirements be built from source distributions. Building one runs its author's code
# as the daemon's user; wheels run none.
# c.CondaStore.pip_allow_sdists = False

# Package index of `pip:` sections that name none. Default: what the machine's configuration of uv
# says, or else PyPI.
# c.CondaStore.pip_index_url = ...

# Called when an environment has another build.
# c.CondaStore.post_update_environment_build_hook = None

# Pip requirements of a specification that has none.
# c.CondaStore.pypi_default_packages = []

# Pip requirements that are added to specifications that lack them.
# c.CondaStore.pypi_included_packages = []

# PyPI project names that every specification must contain.
# c.CondaStore.pypi_required_packages = []

# URL of a Redis through which daemons on one PostgreSQL show each other's live logs, and settle
# who watches files, such as `redis://:PASSWORD@host:6379/0`. Default: such logs come when their
# builds end.
# c.CondaStore.redis_url = ...

# Seconds for which a solver trusts the channel data that it holds.
# c.CondaStore.repodata_ttl = 120

# Run the packages' post-link scripts. They run as the daemon's user, with all that it may do. One
# that fails fails its build.
# c.CondaStore.run_link_scripts = False

# Where artifacts are kept: a class or its import path.
# c.CondaStore.storage_class = 'condastore.storage.LocalStorage'

# Bytes that must be free on the store's file system to create or update an environment.
# c.CondaStore.storage_threshold = 5368709120

# Directory of the built environments and of the package store, which should share one file system
# so that packages can be hard-linked; else environments have copies, and so where the file system
# has no hard links. Default: `{data_directory}/state`.
# c.CondaStore.store_directory = ...

# Bring the database's schema up to date at start.
# c.CondaStore.upgrade_db = True

# Called before an environment is made or changed.
# c.CondaStore.validate_action = None

# Called with what is posted (docs/hooks.md).
# c.CondaStore.validate_specification = None

#-------------------------------------------------------------------------------------------------
# CondaStoreWorker: How the task pool runs builds, and what it builds by itself.

# Archives, installers and images that are made at once.
# c.CondaStoreWorker.artifact_concurrency = 1

# Builds that run at once. Default: the number of CPUs.
# c.CondaStoreWorker.concurrency = ...

# Seconds that running builds get to finish after SIGTERM; then they go back to the queue and
# start again with the next daemon.
# c.CondaStoreWorker.drain_timeout = 30.0

# Seconds between looks for news in the indexed channels; 0 never looks.
# c.CondaStoreWorker.index_interval = 900.0

# Times that a task is tried that fails for a reason that may pass, such as a database that is
# away. One during which the daemon dies twice is given up in any case.
# c.CondaStoreWorker.max_attempts = 3

# Resident bytes above which a solver process is replaced after its solve.
# c.CondaStoreWorker.max_solver_memory = 1073741824

# Solves after which a solver process is replaced.
# c.CondaStoreWorker.max_solver_uses = 200

# Files a second that the removal of deleted builds takes away, so that builds are not held up by
# it; 0 is as many as can be, and so it is while the disk is full.
# c.CondaStoreWorker.removal_rate = 5000.0

# Seconds after which an unused solver process ends.
# c.CondaStoreWorker.solver_idle_time = 300.0

# Solver processes that are kept ready between solves.
# c.CondaStoreWorker.warm_solvers = 1

# Files, and directories of `*.yml` and `*.yaml` files, each an environment of the namespace
# `filesystem_namespace`, built again when its file changes.
# c.CondaStoreWorker.watch_paths = []

#-------------------------------------------------------------------------------------------------
# Images: How container images of builds are made; docs/images.md explains.

# What images stand on: `host`, this machine's own C library and shell; the absolute path of an
# OCI layout, oci-archive or docker-archive; or a reference such as
# `registry.example.org/debian:12-slim`, which is fetched once and kept.
# c.Images.base = 'host'

# What a container runs unless it is told otherwise.
# c.Images.command = ['/bin/sh', '-l']

# How layers are compressed. `zstd` is smaller and faster, and needs docker 23, containerd 1.5 or
# podman.
# c.Images.compression = 'gzip'

# Effort of the compression: 0 to 3 for gzip (default 2), 1 to 19 for zstd (default 3).
# c.Images.compression_level = None

# Entrypoint of images. Default: one that runs the packages' activation scripts, where there are
# any, and else none.
# c.Images.entrypoint = ...

# With the base `host`, take along libraries of this machine that packages need and no package
# brings.
# c.Images.host_libraries = True

# Layers of packages that an image may have; the smallest packages beyond that share one. Docker
# takes 125 in all, of which 20 are left for Dockerfiles that begin with the image.
# c.Images.layer_budget = 80

# Where the environment is inside an image. Another one makes every layer anew.
# c.Images.prefix = '/opt/env'

# User that containers run as. Default: the base's, or root.
# c.Images.user = ...

#-------------------------------------------------------------------------------------------------
# AuthenticationBackend: How callers prove who they are.

# Algorithm that tokens are signed with.
# c.AuthenticationBackend.jwt_algorithm = 'HS256'

# Tokens that work besides those that are given out: a dictionary of the token's text to
# `{"primary_namespace": name, "role_bindings": {pattern: [role, ...]}}`.
# c.AuthenticationBackend.predefined_tokens = {}

# Secret that tokens are made from. Default: 32 random bytes, made once and kept in
# `{data_directory}/secret`.
# c.AuthenticationBackend.secret = ...

#-------------------------------------------------------------------------------------------------
# RBACAuthorizationBackend: Who may do what: roles, and where everybody has which.

# Roles of everybody who has signed in, by arn pattern.
# c.RBACAuthorizationBackend.authenticated_role_bindings = {'default/*': ['viewer'], 'filesystem/*': ['viewer']}

# Permissions of each role; docs/security.md lists them.
# c.RBACAuthorizationBackend.role_mappings = {'viewer': ['environment::read', 'namespace-role-mapping::read', 'namespace::read'], 'editor': ['build::cancel', 'environment::read', 'environment::solve', 'environment::update', 'environment:create', 'namespace-role-mapping::read', 'namespace::read', 'setting::read'], 'admin': ['build::cancel', 'build::delete', 'environment::delete', 'environment::read', 'environment::solve', 'environment::update', 'environment:create', 'namespace-role-mapping::create', 'namespace-role-mapping::delete', 'namespace-role-mapping::read', 'namespace-role-mapping::update', 'namespace::create', 'namespace::delete', 'namespace::read', 'namespace::update', 'setting::read', 'setting::update']}

# Which role mappings of namespaces count: 1, what `PUT /namespace/NAME/` gives to the users whose
# primary namespace is NAME; or 2, to whom `POST /namespace/NAME/role` opens NAME.
# c.RBACAuthorizationBackend.role_mappings_version = 1

# Roles of whoever has not signed in, by arn pattern.
# c.RBACAuthorizationBackend.unauthenticated_role_bindings = {'default/*': ['viewer']}

#-------------------------------------------------------------------------------------------------
# ContainerRegistry: The container registry at `/v2/`: pulling, images on demand, and what is kept
# of images.

# Seconds for which a blob stays when nothing needs it any more; longer than any pull, and than
# the making of any image.
# c.ContainerRegistry.blob_grace = 86400.0

# Seconds after which unneeded blobs are collected, besides deletions.
# c.ContainerRegistry.collect_every = 86400.0

# Seconds for which a request for an image that is being made is held open before its client is
# sent to the same place again. Proxies often end silent requests after 60.
# c.ContainerRegistry.hold_time = 50.0

# Bytes of layers that are kept for images to come, beyond those that images have.
# c.ContainerRegistry.layer_cache_bytes = 10737418240

# Builds of images on demand that wait or run at once for one user.
# c.ContainerRegistry.max_on_demand_builds = 4

# Packages that the name of an image on demand may ask for.
# c.ContainerRegistry.max_on_demand_packages = 20

# How often that is done, before the client is told to come back; it follows nine.
# c.ContainerRegistry.max_redirects = 9

# Requests that wait for images at once.
# c.ContainerRegistry.max_waiting = 500

# Make images that are named by what is in them, for whoever may create environments in the
# namespace of images on demand.
# c.ContainerRegistry.on_demand = True

# Seconds after which the tag `latest` of an image on demand is solved anew.
# c.ContainerRegistry.on_demand_lifetime = 86400.0

# Namespace of images on demand.
# c.ContainerRegistry.on_demand_namespace = 'conda-store-dynamic'

# Seconds for which an image stays after its last pull when its build is deleted.
# c.ContainerRegistry.pull_grace = 3600.0

# Seconds for which an image that could not be made is not tried again, however often it is
# pulled.
# c.ContainerRegistry.retry_failed_after = 600.0

# Seconds for which a token for pulling is good, also when its client has to wait for an image; a
# revoked token of the API ends as a password at once, and in what was made from it after this.
# c.ContainerRegistry.token_lifetime = 600

# Seconds for which a stored blob stays that the database does not know. A crash leaves such
# blobs, and a database that is restored from a backup knows none of those that were made since:
# longer than backups are kept, and than it takes to notice.
# c.ContainerRegistry.unknown_blob_grace = 1209600.0

#-------------------------------------------------------------------------------------------------
# Authentication: What all login back ends share.

# Users that are administrators.
# c.Authentication.admin_users = []

# Domain of the cookie. Default: the host of the request.
# c.Authentication.cookie_domain = ...

# Name of the cookie with the token.
# c.Authentication.cookie_name = 'conda-store-auth'

# Text for the login page, as HTML that is trusted.
# c.Authentication.login_html = ''

# Seconds for which somebody stays signed in.
# c.Authentication.login_lifetime = 86400

# Roles of everybody who signs in, by arn pattern; `{username}` is the user's name.
# c.Authentication.user_role_bindings = {'{username}/*': ['admin']}

#-------------------------------------------------------------------------------------------------
# TokenAuthentication: Signing in with the admin token, which the daemon prints at its start, as
# the password.

# Roles of whoever has the admin token, by arn pattern; `{username}` is his name.
# c.TokenAuthentication.user_role_bindings = {'*/*': ['admin']}

#-------------------------------------------------------------------------------------------------
# DummyAuthentication: One password for everybody, who all are administrators: for tests and
# demonstrations.

# The password, which has no default; an empty one lets everybody in.
# c.DummyAuthentication.password = None

# Roles of everybody who signs in, by arn pattern; `{username}` is the user's name.
# c.DummyAuthentication.user_role_bindings = {'*/*': ['admin']}

#-------------------------------------------------------------------------------------------------
# LocalStorage: Keeps artifacts in a directory.

# Directory of the artifacts. Default: `{CondaStore.data_directory}/storage`.
# c.LocalStorage.storage_path = ...

#-------------------------------------------------------------------------------------------------
# S3Storage: Keeps artifacts in a bucket of S3; while it is away, what is new waits on the disk.

# Access key. Default: what the environment says, such as `AWS_ACCESS_KEY_ID`,
# `~/.aws/credentials` or the role of the machine.
# c.S3Storage.access_key = ...

# Bucket of the artifacts; it must exist.
# c.S3Storage.bucket_name = 'conda-store'

# Provider of credentials instead of `access_key`: a class whose objects have a method
# `retrieve()` that returns an object with `access_key`, `secret_key` and `session_token`, such as
# the providers of the package minio.
# c.S3Storage.credentials = None

# Positional arguments of `credentials`.
# c.S3Storage.credentials_args = []

# Named arguments of `credentials`.
# c.S3Storage.credentials_kwargs = {}

# Host, or host:port, where clients find S3: downloads are sent there, with a URL that is signed
# for a while. Default: downloads go through the daemon.
# c.S3Storage.external_endpoint = ...

# Clients speak TLS with `external_endpoint`.
# c.S3Storage.external_secure = True

# Host, or host:port, where the daemon finds S3. Default: Amazon's own for the region.
# c.S3Storage.internal_endpoint = ...

# Speak TLS with `internal_endpoint`.
# c.S3Storage.internal_secure = True

# Region of the bucket.
# c.S3Storage.region = 'us-east-1'

# Secret that belongs to `access_key`. Default: likewise.
# c.S3Storage.secret_key = ...

# Seconds for which the URL of a download is good.
# c.S3Storage.url_lifetime = 900

#-------------------------------------------------------------------------------------------------
# PAMAuthentication: Signing in as a user of the workstation; the primary namespace is the user's
# name.

# Groups of the system whose members are administrators.
# c.PAMAuthentication.admin_groups = []

# Let root sign in.
# c.PAMAuthentication.allow_root = False

# Groups of the system whose members may sign in; empty for everybody.
# c.PAMAuthentication.allowed_groups = []

# Roles of the members of the system's groups: a dictionary of the group's name to `{pattern:
# [role, ...]}`.
# c.PAMAuthentication.group_role_bindings = {}

# PAM service that checks the password.
# c.PAMAuthentication.service = 'login'

# Seconds that PAM may take.
# c.PAMAuthentication.timeout = 30

#-------------------------------------------------------------------------------------------------
# GenericOAuthAuthentication: Signing in at a provider that speaks OAuth 2 or OpenID Connect.

# Scopes to ask for, such as `openid profile`; empty asks for none.
# c.GenericOAuthAuthentication.access_scope = ''

# Where a code is exchanged for an access token.
# c.GenericOAuthAuthentication.access_token_url = ''

# The provider's page to sign in at.
# c.GenericOAuthAuthentication.authorize_url = ''

# Name of this server at the provider.
# c.GenericOAuthAuthentication.client_id = ''

# Secret of this server at the provider.
# c.GenericOAuthAuthentication.client_secret = ''

# Issuer of id tokens (OpenID Connect); needs `jwks_url`.
# c.GenericOAuthAuthentication.issuer = ''

# Where the provider publishes its keys. If it is set, an id token is demanded and checked.
# c.GenericOAuthAuthentication.jwks_url = ''

# URL that the provider sends back to, or a function that makes it of the request. Default:
# `/oauth_callback/` of this server.
# c.GenericOAuthAuthentication.oauth_callback_url = ...

# Check the provider's certificate.
# c.GenericOAuthAuthentication.tls_verify = True

# Key of the user's name in that data.
# c.GenericOAuthAuthentication.user_data_key = ''

# Where the user's data is read with the access token.
# c.GenericOAuthAuthentication.user_data_url = ''

#-------------------------------------------------------------------------------------------------
# GithubOAuthAuthentication: Signing in with an account of GitHub.

# URL of GitHub's API.
# c.GithubOAuthAuthentication.github_api = 'https://api.github.com'

# URL of GitHub.
# c.GithubOAuthAuthentication.github_url = 'https://github.com'

#-------------------------------------------------------------------------------------------------
# JupyterHubOAuthAuthentication: Signing in with an account of a JupyterHub.

# URL of the JupyterHub, without `/hub/`.
# c.JupyterHubOAuthAuthentication.jupyterhub_url = ''
