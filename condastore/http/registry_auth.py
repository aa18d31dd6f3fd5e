"""Who pulls: challenges, tokens, and the endpoint that gives them (the Docker token protocol)."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from condastore.access import Caller
from condastore.auth.registry_tokens import Grant, RegistryTokens, now
from condastore.configuration import ContainerRegistry
from condastore.errors import RegistryError, TooLarge
from condastore.http.context import parts_of
from condastore.http.forms import read_form
from condastore.http.problems import json_response
from condastore.service.repositories import Repository, actions, parse_name

SERVICE = "condastore"
TOKEN_PATH = "/registry/token"
# Of one token; clients ask for one or two.
MAX_SCOPES = 20
ANONYMOUS = "anonymous"
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
