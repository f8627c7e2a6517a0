"""The demo: three airports, a year of real flights, one model for all of them."""
