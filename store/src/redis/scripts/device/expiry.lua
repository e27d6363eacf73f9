-- Ends what ran out of time, except what a live session may hold in flight.
local function expire(d, is_held)
  local is_due = d.next_expiry ~= 0 and d.next_expiry <= now(d)
  if not is_due and (is_held or d.held == 0) then return end
  local over, next_expiry, held = {}, 0, 0
  for i, entry in ipairs(call('LRANGE', QUEUE, 0, -1)) do
    if sub(entry, 1, 1) ~= TOMB then
      local generation, expires = unpack('>I7I7', entry, 2)
      local sequence = d.first + i - 1
      if expires > now(d) then
        if next_expiry == 0 or expires < next_expiry then next_expiry = expires end
      elseif expires ~= 0 and is_held and sequence <= d.offered then
        held = 1
      elseif expires ~= 0 then
        over[#over + 1] = { generation, sequence }
      end
    end
  end
  d.next_expiry, d.held = next_expiry, held
  for _, id in ipairs(over) do
    finish(d, id[1], id[2], id[2] <= d.offered and 4 or 3, 0)
  end
end
