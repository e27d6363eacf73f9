local OUTCOMES_MAX = 64

local function remember(d, generation, sequence, kind, code)
  call('RPUSH', OUTCOMES, pack('>I7I7I7I1I2', generation, sequence, now(d), kind, code))
  if call('LLEN', OUTCOMES) > OUTCOMES_MAX then
    local _, gone = unpack('>I7I7', call('LPOP', OUTCOMES))
    local before = unpack('>I7', call('HGET', KEY, 'x') or '\0\0\0\0\0\0\0')
    call('HSET', KEY, 'x', pack('>I7', max(gone, before)))
  end
end

-- Tombstones that came first go.
local function settle(d)
  while d.waiting < d.last - d.first + 1 do
    if sub(call('LINDEX', QUEUE, 0), 1, 1) ~= TOMB then return end
    call('LPOP', QUEUE)
    d.first = d.first + 1
  end
  if d.first > d.last then d.next_expiry, d.held = 0, 0 end
end

-- Ends a waiting entry other than by an acknowledgement.
local function finish(d, generation, sequence, kind, code)
  if sequence < d.first or sequence > d.last then return end
  local entry = call('LINDEX', QUEUE, sequence - d.first)
  if sub(entry, 1, 1) == TOMB or unpack('>I7', entry, 2) ~= generation then return end
  call('LSET', QUEUE, sequence - d.first, TOMB .. sub(entry, 2, 8))
  d.waiting = d.waiting - 1
  remember(d, generation, sequence, kind, code)
  settle(d)
end
