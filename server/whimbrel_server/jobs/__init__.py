"""What the fleet server does by itself: fold, judge, roll out, sign, trigger."""
