"""Networks, behind one seam."""
