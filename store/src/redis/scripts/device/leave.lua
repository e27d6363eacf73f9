-- Ends the session; what it held in flight past its time is expired.
local function leave(d)
  d.seat, d.seen, d.session_changed = false, now(d), true
  call('HDEL', KEY, 'b')
  expire(d, false)
end
