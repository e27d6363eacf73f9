-- id, tenant, most revoked ids that are kept
local TOKENS, REVOKED, COUNT = KEYS[1], KEYS[2], KEYS[3]
local call, sub, unpack = redis.call, string.sub, struct.unpack
local record = call('HGET', TOKENS, ARGV[1])
if not record then return false end
local len = string.byte(record, 58)
if sub(record, 59, 58 + len) ~= ARGV[2] then return false end
if unpack('>I7', record, 47) == 0 then
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  record = sub(record, 1, 46) .. struct.pack('>I7', now) .. sub(record, 54)
  call('HSET', TOKENS, ARGV[1], record)
  call('ZADD', REVOKED, now, ARGV[1])
  call('ZREMRANGEBYRANK', REVOKED, 0, -1 - tonumber(ARGV[3]))
  call('INCR', COUNT)
end
return record
