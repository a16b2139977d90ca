"""The engine on Ray: lanes, their actors, and who watches over them."""
