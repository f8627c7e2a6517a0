"""Pages of bundles as HTML files that need nothing else: no request, no script, any screen, paper.

Pure: contents in, text out; the same contents give the same text.
"""
