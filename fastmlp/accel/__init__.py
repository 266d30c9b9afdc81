"""scikit-learn's MLPClassifier and MLPRegressor, trained by fastmlp in unchanged code.

    import fastmlp.accel

    fastmlp.accel.install()

or `python -m fastmlp.accel script.py`. The two classes stay scikit-learn's own: only what trains their networks is
replaced. So it does not matter who has imported them before, and what was trained here loads where fastmlp is not.

    with fastmlp.accel.together():
        GridSearchCV(MLPClassifier(), grid).fit(X, y)

trains the folds and settings of searches side by side, these networks' and those of `fastmlp.MLPClassifier`.
"""

from fastmlp.accel.installing import install, is_installed, uninstall
from fastmlp.accel.together import together

__all__ = ["install", "is_installed", "together", "uninstall"]
