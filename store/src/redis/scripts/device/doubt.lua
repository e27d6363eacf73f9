-- The contents may have gone back: nothing that waits now is proved by a cumulative trim, except by the session
-- that holds it in flight.
local function doubt_all(d)
  if d.doubt == 0 then
    d.sure, d.sure_epoch, d.sure_changed = d.offered, d.seat and d.epoch or 0, d.last > 0
  end
  d.doubt = d.last
end
