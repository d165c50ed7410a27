"""A wheel holds one package, negflax, with configs/ and launch/ inside; else see pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["negflax", "negflax.*"]),
        "negflax.configs",
        "negflax.launch",
    ],
    package_dir={"negflax.configs": "configs", "negflax.launch": "launch"},
)
