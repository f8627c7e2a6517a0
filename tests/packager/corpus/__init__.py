"""The corpus of models: each is converted and proven, or refused for the right reason.

====================  =========================================================================
``case.py``           what a case is, and what was seen of it
``SOURCE_cases.py``   the cases of one source: ``SOURCE``, ``CASES`` and ``ask``
``collection.py``     all cases whose framework is installed here, and names of those that are not
``judge.py``          convert and prove one case, and check it once more on rows of its own
``page.py``           docs/reference/conversions.md: one section per source
====================  =========================================================================

``python -m tests.packager.corpus [SOURCE …]`` writes the sections of the sources installed in that
environment and keeps the others, so that several environments fill one page.
"""
