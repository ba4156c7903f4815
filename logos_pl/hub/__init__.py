"""Lenses on the Hub: a dataset repository in a fixed layout, with an index that has the hash of every file.

``layout`` defines paths, ``index`` the list of contents, ``verify`` and ``decode`` check them;
``checkpoints``, ``licences``, ``cards`` and ``staging`` build a release, ``push`` sends it, ``pull`` fetches one, and
``source`` finds the lens that a reference means.
"""
