-- id, record, most tokens of a tenant, ms for which one that is over is kept
local TOKENS, OF_TENANT = KEYS[1], KEYS[2]
local call, unpack = redis.call, struct.unpack
local most = tonumber(ARGV[3])
if call('HEXISTS', TOKENS, ARGV[1]) == 1 then return 1 end
if call('SCARD', OF_TENANT) >= most then
  local time = call('TIME')
  local oldest = time[1] * 1000 - tonumber(ARGV[4])
  for _, id in ipairs(call('SMEMBERS', OF_TENANT)) do
    local record = call('HGET', TOKENS, id)
    local expires, revoked = 1, 1
    if record then expires, revoked = unpack('>I7I7', record, 40) end
    if (expires ~= 0 and expires < oldest) or (revoked ~= 0 and revoked < oldest) then
      call('HDEL', TOKENS, id)
      call('SREM', OF_TENANT, id)
    end
  end
  if call('SCARD', OF_TENANT) >= most then return 2 end
end
call('HSET', TOKENS, ARGV[1], ARGV[2])
call('SADD', OF_TENANT, ARGV[1])
return 0
