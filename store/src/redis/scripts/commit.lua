-- Stream and groups of one shard. Group, ms and n of its position.
local STREAM, GROUPS = KEYS[1], KEYS[2]
local ms, n = tonumber(ARGV[2]), tonumber(ARGV[3])
local old_ms, old_n = struct.unpack('>I7I7', redis.call('HGET', GROUPS, ARGV[1]) or string.rep('\0', 14))
if ms > old_ms or (ms == old_ms and n > old_n) then
  redis.call('HSET', GROUPS, ARGV[1], struct.pack('>I7I7', ms, n))
end
local slowest_ms, slowest_n
for _, position in ipairs(redis.call('HVALS', GROUPS)) do
  local group_ms, group_n = struct.unpack('>I7I7', position)
  if not slowest_ms or group_ms < slowest_ms or (group_ms == slowest_ms and group_n < slowest_n) then
    slowest_ms, slowest_n = group_ms, group_n
  end
end
redis.call('XTRIM', STREAM, 'MINID', string.format('%.0f-%.0f', slowest_ms, slowest_n + 1))
return 0
