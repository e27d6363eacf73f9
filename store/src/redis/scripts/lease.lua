-- name, lease in ms ('' to remove), incarnation, description
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '' then
  local known = redis.call('HGET', KEYS[1], ARGV[1])
  if known and string.sub(known, 8, 15) == ARGV[3] then redis.call('HDEL', KEYS[1], ARGV[1]) end
  return 0
end
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  if struct.unpack('>I7', known[i + 1]) <= now then redis.call('HDEL', KEYS[1], known[i]) end
end
redis.call('HSET', KEYS[1], ARGV[1], struct.pack('>I7', now + tonumber(ARGV[2])) .. ARGV[3] .. ARGV[4])
return 0
