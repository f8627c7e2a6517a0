"""Pages as HTML files that need nothing else: no request, no script, any screen, paper, notebook.

Pure: values in, text out; the same values give the same text. What every page is made of is in
`element` and `layout`; the drift report is here because the build machine and the fleet server both
write it.
"""
