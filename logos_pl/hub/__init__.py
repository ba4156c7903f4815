"""Lenses on the Hub: a data set repository in a fixed layout, with an index of the hash of every file.

``layout`` says where everything lies, ``index`` what is there, ``verify`` and ``decode`` whether it is so;
``checkpoints``, ``licences``, ``cards`` and ``staging`` build a release, ``push`` sends it, ``pull`` fetches one, and
``source`` finds the lens that a reference means.
"""
