-- Stream, queues and groups of one shard.
-- most events, age in ms kept at most ('' for ever), the same without any group, then for each batch: device,
-- queue, count, and for each event: sequence, bytes
local STREAM, QUEUES, GROUPS = KEYS[1], KEYS[2], KEYS[3]
local call = redis.call
local most = tonumber(ARGV[1])
local age = call('HLEN', GROUPS) == 0 and ARGV[3] or ARGV[2]
if age ~= '' then
  local time = call('TIME')
  call('XTRIM', STREAM, 'MINID', '~', string.format('%.0f', time[1] * 1000 - tonumber(age)))
end
local room = most - call('XLEN', STREAM)
local reply, at = {}, 4
while at <= #ARGV do
  local device, queue, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  -- Two queues at most: incarnation, last stored sequence; the newest last.
  local known, last, others = call('HGET', QUEUES, device) or '', 0, ''
  for i = 1, #known, 15 do
    if string.sub(known, i, i + 7) == queue then
      last = struct.unpack('>I7', known, i + 8)
    else
      others = string.sub(known, i, i + 14)
    end
  end
  local before, is_full = last, false
  for _ = 1, count do
    local sequence = tonumber(ARGV[at])
    if sequence > last and not is_full then
      if room <= 0 then
        is_full = true
      else
        call('XADD', STREAM, '*', 'e', ARGV[at + 1])
        last, room = sequence, room - 1
      end
    end
    at = at + 2
  end
  if last > before then call('HSET', QUEUES, device, others .. queue .. struct.pack('>I7', last)) end
  reply[#reply + 1] = (is_full and last == before) and -1 or last
end
return reply
