"""scikit-learn's MLPClassifier and MLPRegressor, trained by fastmlp in unchanged code.

    import fastmlp.accel

    fastmlp.accel.install()

or `python -m fastmlp.accel script.py`. The two classes stay scikit-learn's own: only what trains their networks is
replaced. So it does not matter who has imported them before, and what was trained here loads where fastmlp is not.
"""

from fastmlp.accel.installing import install, is_installed, uninstall

__all__ = ["install", "is_installed", "uninstall"]
