"""A wheel holds one package, negflax, with configs/ and launch/ inside; else see pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["negflax", "negflax.*"]),
        "negflax.configs",
        "negflax.launch",
        "negflax.launch.engines",
    ],
    package_dir={
        "negflax.configs": "configs",
        "negflax.launch": "launch",
        "negflax.launch.engines": "launch/engines",
    },
)
