"""What the fleet server tells people and programs: frozen views, and the specs they send.

The REST interface, the dashboard and the command line all speak in these; the store's rows and
the wire's messages stay inside. Times are integer milliseconds since 1970 UTC, fields are only
ever added, with defaults. A None says "not known" or "too little data", never zero.
"""
