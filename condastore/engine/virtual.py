"""The virtual packages that a platform is assumed to have."""

from collections.abc import Sequence

from rattler import GenericVirtualPackage, PackageName, Subdir, Version, VirtualPackage
from rattler.package import BuildString
from rattler.virtual_package import Override, VirtualPackageOverrides

# Old enough for the packages of today's channels to run on what people still use.
_GLIBC = "2.17"
_GLIBC_RISCV = "2.35"
_LINUX = "5.10"
_MACOS = "13.0"

_ARCHITECTURES = {"64": "x86_64", "32": "x86", "arm64": "m1"}


def virtual_packages(
    subdir: str, given: Sequence[Sequence[str]] | None, cuda: str | None
) -> list[GenericVirtualPackage]:
    """Those that are given; else this machine's own; else sane ones of a foreign platform."""
    if given is not None:
        packages = [_virtual(name, version, build) for name, version, build in given]
    elif subdir == str(Subdir.current()):
        return _detected(cuda)
    else:
        packages = _assumed(Subdir(subdir))
    if cuda:
        packages.append(_virtual("__cuda", cuda))
    return packages


def _detected(cuda: str | None) -> list[GenericVirtualPackage]:
    overrides = VirtualPackageOverrides(cuda=Override.string(cuda)) if cuda else None
    return [package.into_generic() for package in VirtualPackage.detect(overrides)]


def _assumed(subdir: Subdir) -> list[GenericVirtualPackage]:
    architecture = str(subdir).partition("-")[2]
    packages = []
    if subdir.is_unix:
        packages.append(_virtual("__unix", "0"))
    if subdir.is_linux:
        glibc = _GLIBC_RISCV if architecture == "riscv64" else _GLIBC
        packages += [_virtual("__linux", _LINUX), _virtual("__glibc", glibc)]
    if subdir.is_osx:
        packages.append(_virtual("__osx", _MACOS))
    if subdir.is_windows:
        packages.append(_virtual("__win", "0"))
    archspec = _ARCHITECTURES.get(architecture, architecture)
    packages.append(_virtual("__archspec", "1", archspec))
    return packages


def _virtual(name: str, version: str, build: str = "0") -> GenericVirtualPackage:
    return GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
