"""The contracts of the five plugin points, as functions for the tests of whoever writes a plugin.

    from kdnas.testing import check_environment

    def test_environment():
        check_environment(my_package.make, {"robots": 3})

Each plays, trains, prices or exports something small with the plugin, and raises AssertionError with a sentence when it
breaks what its Protocol says. None needs pytest.
"""

from kdnas.testing.environment import check_environment
from kdnas.testing.exporter import check_exporter
from kdnas.testing.family import check_family
from kdnas.testing.target import check_target
from kdnas.testing.teacher import check_teacher

__all__ = ["check_environment", "check_exporter", "check_family", "check_target", "check_teacher"]
